"""ADE20K's masks and COCO's boxes, each on images of its own: two of both in every batch."""

_base_ = './coco_instance_ms.py'

seg_num_classes = 150
crop_size = (512, 512)
seg_type = 'CheckedADE20KDataset'
seg_root = 'data/ade/ADEChallengeData2016'
# The short edge has the size of a crop.
seg_scale = (4 * min(crop_size), min(crop_size))

seg_train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=seg_scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
seg_test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=seg_scale, keep_ratio=True),
    # After Resize: labels keep their original size, and predictions are resized to it.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    # Samples of each task in a batch.
    sampler=dict(type='TaskSampler', per_batch=dict(seg=2, det=2)),
    dataset=dict(
        type='MultiTaskDataset',
        datasets=dict(
            seg=dict(
                type=f'mmseg.{seg_type}',
                data_root=seg_root,
                data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
                pipeline=seg_train_pipeline,
            ),
            det=dict(_base_.train_dataloader.dataset, type='mmdet.CheckedCocoDataset'),
        ),
    ),
)
seg_loader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=seg_type,
        data_root=seg_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=seg_test_pipeline,
    ),
)
seg_metric = dict(type='IoUMetric', iou_metrics=['mIoU'])
val_dataloader = dict(_delete_=True, seg=seg_loader, det=_base_.val_dataloader)
test_dataloader = dict(_delete_=True, seg=seg_loader, det=_base_.val_dataloader)
val_evaluator = dict(_delete_=True, seg=seg_metric, det=_base_.val_evaluator)
test_evaluator = dict(_delete_=True, seg=seg_metric, det=_base_.val_evaluator)
del seg_loader, seg_metric
