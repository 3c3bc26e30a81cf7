"""Tens to hundreds of images with masks, one device: ViT-Adapter-S and a slim UPerNet.

A config of your own inherits it, `_base_ = 'vit_dense::vit_upernet_small.py'`, and sets variables:
those below, of `_base_/datasets/small_segmentation.py` and of `_base_/schedules/adamw_epochs.py`.
For fewer images, or a CPU, use a frozen ViT: `few_shot/`.
"""

_base_ = [
    '_base_/models/upernet_vit_adapter.py',
    '_base_/datasets/small_segmentation.py',
    '_base_/schedules/adamw_epochs.py',
    '_base_/default_runtime.py',
]

# With another model, set `mean` and `std`, too; `width` only if its name does not tell it.
model_name = 'vit_small_patch16_224.augreg_in21k_ft_in1k'
widths = dict(tiny=192, small=384, base=768, large=1024)
width = next((width for size, width in widths.items() if size in model_name), 384)

crop_size, num_classes = _base_.crop_size, _base_.num_classes
model = dict(
    data_preprocessor=dict(mean=_base_.mean, std=_base_.std, bgr_to_rgb=_base_.bgr, size=crop_size),
    backbone=dict(
        vit=dict(
            model_name=model_name,
            drop_path_rate=0.0,
            model_kwargs=dict(in_chans=len(_base_.mean)),
        ),
        deform_num_heads=width // 64,
    ),
    decode_head=dict(in_channels=[width] * 4, channels=128, num_classes=num_classes),
    auxiliary_head=dict(in_channels=width, channels=64, num_classes=num_classes),
    test_cfg=dict(
        mode='slide', crop_size=crop_size, stride=tuple(edge * 2 // 3 for edge in crop_size)
    ),
)
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=_base_.val_interval, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=True)
