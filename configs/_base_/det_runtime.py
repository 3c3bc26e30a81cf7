"""What every detection config shares, as far as it differs from segmentation's runtime."""

_base_ = './default_runtime.py'

default_scope = 'mmdet'
# One import registers everything of ours and lets mmdet import on wheels without compiled ops.
custom_imports = dict(imports=['vit_dense.detection'], allow_failed_imports=False)

# Images differ in size from step to step: searching for the fastest convolutions costs more time
# than it saves.
env_cfg = dict(cudnn_benchmark=False)

log_processor = dict(by_epoch=True)
visualizer = dict(type='DetLocalVisualizer')

default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=1, save_best='coco/bbox_mAP'),
    check=dict(type='DetCheckHook'),
    pictures=dict(type='DetPicturesHook'),
)

# Merges boxes; masks are not merged, and evaluating them needs a test without augmentation.
tta_model = dict(
    type='BoxTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
)
