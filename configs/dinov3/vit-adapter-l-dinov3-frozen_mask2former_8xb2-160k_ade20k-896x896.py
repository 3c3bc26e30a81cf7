"""A frozen DINOv3 ViT-L/16 under the adapter of its release, and Mask2Former, at 896 pixels.

Published are, for ViT-7B, the model and the test: an adapter without injectors, a head of 2048
channels with 16 heads, crops of 896 with a stride of 596, and five scales (`tools/test.py --tta`).
How it was trained was not: the rates and schedule are those of Mask2Former on BEiT-L. The
pixel decoder attends over strides 8 to 32, as in Mask2Former; the release's also over stride 4,
which takes four times the memory there.
"""

_base_ = 'vit_dense::mask2former/vit-adapter-l-beit_mask2former_8xb2-160k_ade20k-640x640.py'

crop_size = (896, 896)
scale = (4 * min(crop_size), min(crop_size))
tta_ratios = (0.9, 0.95, 1.0, 1.05, 1.1)
width, num_heads = 2048, 16
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        vit=dict(
            model_name='vit_large_patch16_dinov3.lvd1689m',
            frozen_stages=24,  # all blocks
            grad_checkpointing=False,
        ),
        inject=False,
        tap_norm=True,
        interaction_indexes=[(0, 4), (5, 11), (12, 17), (18, 23)],
    ),
    test_cfg=dict(stride=(596, 596)),
)
# No layer decay, as the pretrained weights are frozen.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
