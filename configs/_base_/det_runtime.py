"""What every detection config shares, as differences to the runtime of segmentation."""

_base_ = './default_runtime.py'

default_scope = 'mmdet'
# Registers our types, and makes mmdet importable without compiled operators. A list in your own
# config replaces this one: name 'vit_dense.detection' in it, before your modules.
custom_imports = dict(imports=['vit_dense.detection'], allow_failed_imports=False)

# Image sizes differ from step to step: the search for the fastest convolutions takes longer than
# it saves.
env_cfg = dict(cudnn_benchmark=False)

log_processor = dict(by_epoch=True)
visualizer = dict(type='DetLocalVisualizer')

default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=1, save_best='coco/bbox_mAP'),
    check=dict(type='DetCheckHook'),
    pictures=dict(type='DetPicturesHook'),
)

# Merges boxes, not masks: evaluate masks without test-time augmentation.
tta_model = dict(
    type='BoxTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
)
