"""The released ViT-CoMer-T with UPerNet, for its trained file."""

_base_ = '../vit_comer/vit-comer-t-deit_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        vit=dict(type='ReleasedTimmViT', pretrained=False, model_kwargs=dict(init_values=1.0))
    ),
)
test_pipeline = [
    *_base_.test_pipeline[:2],
    dict(type='ResizeToMultiple', size_divisor=32),
    *_base_.test_pipeline[2:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
