"""Images, boxes and instance masks of your own, tens to hundreds."""

_base_ = './small_boxes.py'

load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline = [
    _base_.train_pipeline[0],
    load_annotations,
    *_base_.train_pipeline[2:],
]
# Boxes of objects that a crop cuts enclose the rest of the mask.
train_pipeline[3] = dict(recompute_bbox=True, **_base_.train_pipeline[3])
test_pipeline = [*_base_.test_pipeline[:2], load_annotations, _base_.test_pipeline[3]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = dict(metric=['bbox', 'segm'])
