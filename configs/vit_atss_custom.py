"""Your own boxes in COCO's format, without masks: copy this file, and change the two lines below.

The folder holds images in `train/` and `val/`, and `annotations/{train,val}.json`; `classes` are
the names of the files' categories, in the files' order.
Tens to hundreds of images: `vit_atss_small.py`.
"""

_base_ = 'vit_dense::vit_adapter/vit-adapter-s-deit_atss_8xb2-3x_coco.py'

data_root = 'data/custom'
classes = ('crack', 'hole')

# Inherited configs are evaluated with these values: scale = (1024, 768) works the same way.
num_classes = len(classes)
dataset = dict(metainfo=dict(classes=classes), bad_boxes='error')
val_dataset = dict(ann_file='annotations/val.json', data_prefix=dict(img='val'), **dataset)
train_dataloader = dict(
    dataset=dict(ann_file='annotations/train.json', data_prefix=dict(img='train'), **dataset)
)
val_dataloader = dict(dataset=val_dataset)
test_dataloader = dict(dataset=val_dataset)
