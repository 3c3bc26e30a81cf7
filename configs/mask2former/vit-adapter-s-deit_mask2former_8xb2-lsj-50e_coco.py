"""Mask2Former for instances on ViT-Adapter-S, 50 epochs of large-scale jitter.

Rates, decay, clipping and schedule as published for Mask2Former on ResNet-50; a tenth of the
learning rate for the pretrained ViT only, not for the adapter, which is not pretrained.
"""

_base_ = [
    '../_base_/models/mask2former_det_vit_adapter.py',
    '../_base_/datasets/coco_instance_lsj.py',
    '../_base_/schedules/det_adamw_lsj_100e.py',
    '../_base_/det_runtime.py',
]

num_classes = _base_.num_classes
model = dict(
    # Images are padded to squares.
    data_preprocessor=dict(pad_size_divisor=max(_base_.image_size)),
    backbone=dict(
        vit=dict(model_name='deit_small_patch16_224.fb_in1k', drop_path_rate=0.2),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    panoptic_head=dict(
        in_channels=[384] * 4,
        num_things_classes=num_classes,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
    panoptic_fusion_head=dict(num_things_classes=num_classes),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        layer_decay_rate=1.0,
        custom_keys={
            'backbone.vit.': dict(lr_mult=0.1),
            'query_embed': dict(decay_mult=0.0),
            'query_feat': dict(decay_mult=0.0),
            'panoptic_head.level_embed': dict(decay_mult=0.0),
        },
    ),
)
max_iters = 368750
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, end=max_iters, milestones=[327778, 355092], gamma=0.1)
]
train_cfg = dict(max_iters=max_iters)
auto_scale_lr = dict(base_batch_size=16)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=_base_.train_cfg.val_interval),
)
