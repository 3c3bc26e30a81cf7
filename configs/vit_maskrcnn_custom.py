"""Your own boxes and masks in COCO's format: copy this file, and change the two lines below.

The folder holds images in `train/` and `val/`, and `annotations/{train,val}.json`; `classes` are
the names of the files' categories, in the files' order.
Without masks start from `vit_atss_custom.py`. In a folder of your own, inherit with
`_base_ = 'vit_dense::vit_maskrcnn_coco.py'`.
"""

_base_ = './vit_maskrcnn_coco.py'

data_root = 'data/custom'
classes = ('crack', 'hole')

num_classes = len(classes)
dataset = dict(data_root=data_root, metainfo=dict(classes=classes), bad_boxes='error')
val_dataset = dict(ann_file='annotations/val.json', data_prefix=dict(img='val'), **dataset)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes))
)
train_dataloader = dict(
    dataset=dict(ann_file='annotations/train.json', data_prefix=dict(img='train'), **dataset)
)
val_dataloader = dict(dataset=val_dataset)
test_dataloader = dict(dataset=val_dataset)
val_evaluator = dict(ann_file=f'{data_root}/annotations/val.json')
test_evaluator = val_evaluator
