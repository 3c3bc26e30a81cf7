"""Your own data set: copy this file, and change the three lines below.

The folder holds `images/{training,validation}/*.jpg` and `annotations/{training,validation}/*.png`;
a mask's pixels are class numbers from 0 in the order of `classes`, and 255 where they are ignored.
Other layouts, and tens to hundreds of images: `vit_upernet_small.py`.
"""

_base_ = 'vit_dense::vit_upernet_ade20k.py'

data_root = 'data/custom'
classes = ('background', 'crack')
palette = [[0, 0, 0], [220, 20, 60]]

# Inherited configs are evaluated with these values: crop_size = (640, 640) works the same way.
num_classes = len(classes)
dataset_type = 'CheckedSegDataset'
dataset = dict(metainfo=dict(classes=classes, palette=palette))
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
