"""A frozen DINOv2 ViT-B/14 under a ViT-Adapter: only the adapter and the heads are trained.

518 pixels are 37 patches of 14: the frozen ViT sees the grid that it was trained on.
"""

_base_ = './vit-adapter-b-dinov2_upernet_8xb2-160k_ade20k-512x512.py'

crop_size = (518, 518)
scale = (4 * min(crop_size), min(crop_size))
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        vit=dict(
            model_kwargs=dict(_delete_=True),
            drop_path_rate=0.0,
            frozen_stages=12,  # all blocks
        ),
    ),
    test_cfg=dict(crop_size=crop_size, stride=tuple(edge * 2 // 3 for edge in crop_size)),
)
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    *_base_.train_pipeline[4:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='Resize', scale=scale, keep_ratio=True),
    *_base_.test_pipeline[2:],
]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=tuple(int(edge * by) for edge in scale), keep_ratio=True)
                for by in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            *_base_.tta_pipeline[1].transforms[1:],
        ],
    ),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# No layer decay, as the pretrained weights are frozen; the adapter has the learning rate of the
# published recipes.
optim_wrapper = dict(optimizer=dict(lr=1.2e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
