"""ViT-Adapter-L on BEiT-L with Mask2Former of the ViT's width: the published recipe.

One difference: images are normalised as in BEiT's training, where the release uses ImageNet's mean
and standard deviation.
"""

_base_ = [
    'vit_dense::_base_/models/mask2former_vit_adapter.py',
    'vit_dense::_base_/datasets/ade20k.py',
    'vit_dense::_base_/schedules/adamw_160k.py',
    'vit_dense::_base_/default_runtime.py',
]

crop_size = (640, 640)
# The long edge at most 2048, as in Mask2Former's recipes.
scale = (max(2048, *crop_size), min(crop_size))

# Width of the head.
width, num_heads = 1024, 32
wide = dict(embed_dims=width, num_heads=num_heads)
positions = dict(num_feats=width // 2)
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, size=crop_size),
    backbone=dict(
        vit=dict(model_name='beit_large_patch16_224.in22k_ft_in22k', grad_checkpointing=True),
        deform_num_heads=16,
    ),
    decode_head=dict(
        in_channels=[1024] * 4,
        feat_channels=width,
        out_channels=width,
        num_classes=_base_.num_classes,
        loss_cls=dict(class_weight=[1.0] * _base_.num_classes + [0.1]),
        pixel_decoder=dict(
            encoder=dict(
                layer_cfg=dict(
                    self_attn_cfg=wide,
                    ffn_cfg=dict(embed_dims=width, feedforward_channels=4096),
                ),
            ),
            positional_encoding=positions,
        ),
        positional_encoding=positions,
        transformer_decoder=dict(
            layer_cfg=dict(
                self_attn_cfg=wide,
                cross_attn_cfg=wide,
                ffn_cfg=dict(embed_dims=width, feedforward_channels=4096),
            ),
        ),
    ),
    test_cfg=dict(
        mode='slide',
        crop_size=crop_size,
        stride=tuple(edge * 2 // 3 for edge in crop_size),
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-5, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.9)
)
