"""ViT-Adapter-g on DINOv2 ViT-g/14 (1.1 billion parameters, 40 blocks), sharded.

torchrun --nproc_per_node=8 tools/train.py CONFIG --launcher pytorch
"""

_base_ = './vit-adapter-l-dinov2-sharded_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='vit_giant_patch14_dinov2.lvd142m'),
        deform_num_heads=24,
    ),
    decode_head=dict(in_channels=[1536] * 4),
    auxiliary_head=dict(in_channels=1536),
)
# No recipe was published for this size. With L's decay of 0.65, the first of 40 blocks would learn
# nothing.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
