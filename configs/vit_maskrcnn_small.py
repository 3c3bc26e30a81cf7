"""Tens to hundreds of images with boxes and instance masks, one device: a slim Mask R-CNN.

A config of your own inherits it, `_base_ = 'vit_dense::vit_maskrcnn_small.py'`, and sets variables:
those below, of `_base_/datasets/small_boxes.py` and of `_base_/schedules/adamw_epochs.py`.
Without masks start from `vit_atss_small.py`.
"""

_base_ = [
    '_base_/models/mask_rcnn_vit_adapter.py',
    '_base_/datasets/small_masks.py',
    '_base_/schedules/adamw_epochs.py',
    '_base_/det_runtime.py',
]

# With another model, set `mean` and `std`, too; `width` only if its name does not tell it.
model_name = 'deit_small_patch16_224.fb_in1k'
widths = dict(tiny=192, small=384, base=768, large=1024)
width = next((width for size, width in widths.items() if size in model_name), 384)

model = dict(
    data_preprocessor=dict(mean=_base_.mean, std=_base_.std, bgr_to_rgb=_base_.bgr),
    backbone=dict(
        vit=dict(
            model_name=model_name,
            drop_path_rate=0.0,
            window_size=None,
            model_kwargs=dict(in_chans=len(_base_.mean)),
        ),
        deform_num_heads=width // 64,
    ),
    neck=dict(in_channels=[width] * 4),
    roi_head=dict(
        bbox_head=dict(fc_out_channels=512, num_classes=_base_.num_classes),
        mask_head=dict(num_classes=_base_.num_classes),
    ),
)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=_base_.val_interval, max_keep_ckpts=1),
)
