"""ViT-CoMer-B on DINOv2 ViT-B/14, 12 epochs, also multi-scale: the published recipe."""

_base_ = './vit-comer-b-dinov2_mask-rcnn_8xb2-3x_coco.py'

max_epochs = 12
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, end=max_epochs, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(max_epochs=max_epochs)
