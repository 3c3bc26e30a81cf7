"""A frozen DINOv2 ViT-B/14 under a ViT-Adapter: only the adapter and the heads are trained.

518 pixels are 37 patches of 14: the frozen ViT sees the grid that it was trained on.
"""

_base_ = 'vit_dense::vit_adapter/vit-adapter-b-dinov2_upernet_8xb2-160k_ade20k-512x512.py'

crop_size = (518, 518)
model = dict(
    backbone=dict(
        vit=dict(
            model_kwargs=dict(_delete_=True),
            drop_path_rate=0.0,
            frozen_stages=12,  # all blocks
        ),
    ),
)
# No layer decay, as the pretrained weights are frozen; the adapter has the learning rate of the
# published recipes.
optim_wrapper = dict(optimizer=dict(lr=1.2e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
