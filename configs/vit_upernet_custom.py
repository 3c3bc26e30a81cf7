"""Your own data set: copy this file, and change the three lines below.

The folder holds `images/{training,validation}/*.jpg` and `annotations/{training,validation}/*.png`;
a mask's pixels are class numbers from 0 in the order of `classes`, and 255 where they are ignored.
In a folder of your own, inherit with `_base_ = 'vit_dense::vit_upernet_ade20k.py'`.
"""

_base_ = './vit_upernet_ade20k.py'

data_root = 'data/custom'
classes = ('background', 'crack')
palette = [[0, 0, 0], [220, 20, 60]]

num_classes = len(classes)
dataset = dict(
    type='CheckedSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
)
model = dict(
    decode_head=dict(num_classes=num_classes), auxiliary_head=dict(num_classes=num_classes)
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
