"""The released ViT-Adapter-B with UPerNet, for its trained file: to test it, or to train further.

    python tools/test.py THIS_FILE upernet_deit_adapter_base_512_160k_ade20k.pth

Test images are resized to multiples of 32 px, as in the release.
"""

_base_ = '../vit_adapter/vit-adapter-b-deit_upernet_8xb2-160k_ade20k-512x512.py'

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
