"""ViT-Adapter-S on DeiT-S with DINO, the detector, in 12 epochs.

Rates, decay and schedule as published for DINO on ResNet-50; a tenth of the learning rate for
the pretrained ViT only, not for the adapter, which is not pretrained. Images as in the 3x recipes.
"""

_base_ = [
    '../_base_/models/dino_vit_adapter.py',
    '../_base_/datasets/coco_detection_ms.py',
    '../_base_/schedules/det_adamw_1x.py',
    '../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_small_patch16_224.fb_in1k', drop_path_rate=0.2),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[384] * 3),
    bbox_head=dict(num_classes=_base_.num_classes),
)
optim_wrapper = dict(
    optimizer=dict(weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys={'backbone.vit.': dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, end=_base_.max_epochs, milestones=[11], gamma=0.1)
]
# Images without objects are trained on, too: queries learn to predict nothing.
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False)))
