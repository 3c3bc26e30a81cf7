"""Your own boxes in COCO's format, without masks: copy this file, and change the two lines below.

The folder holds images in `train/` and `val/`, and `annotations/{train,val}.json`; `classes` are
the names of the files' categories, in the files' order.
In a folder of your own, inherit with `_base_ = 'vit_dense::vit_adapter/vit-adapter-s-...'`.
"""

_base_ = './vit_adapter/vit-adapter-s-deit_atss_8xb2-3x_coco.py'

data_root = 'data/custom'
classes = ('crack', 'hole')

num_classes = len(classes)
dataset = dict(data_root=data_root, metainfo=dict(classes=classes), bad_boxes='error')
val_dataset = dict(ann_file='annotations/val.json', data_prefix=dict(img='val'), **dataset)
model = dict(bbox_head=dict(num_classes=num_classes))
train_dataloader = dict(
    dataset=dict(ann_file='annotations/train.json', data_prefix=dict(img='train'), **dataset)
)
val_dataloader = dict(dataset=val_dataset)
test_dataloader = dict(dataset=val_dataset)
val_evaluator = dict(ann_file=f'{data_root}/annotations/val.json')
test_evaluator = val_evaluator
