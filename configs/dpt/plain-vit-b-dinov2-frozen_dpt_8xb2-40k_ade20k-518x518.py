"""DPT on a frozen DINOv2 ViT-B/14: one map of each quarter of the blocks, and their cls tokens.

Widths as in DPT-Base (Ranftl et al. 2021). The schedule is that of the linear probe with a lower
learning rate, and not a published one.
"""

_base_ = 'vit_dense::linear/plain-vit-b-dinov2_linear_8xb2-40k_ade20k-518x518.py'

model = dict(
    backbone=dict(out_indices=(2, 5, 8, 11), output_cls_token=True),
    decode_head=dict(
        _delete_=True,
        type='DPTHead',
        embed_dims=768,
        in_channels=[768] * 4,
        in_index=[0, 1, 2, 3],
        input_transform='multiple_select',
        readout_type='project',
        post_process_channels=[96, 192, 384, 768],
        channels=256,
        dropout_ratio=0.1,
        num_classes=_base_.num_classes,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.01))
