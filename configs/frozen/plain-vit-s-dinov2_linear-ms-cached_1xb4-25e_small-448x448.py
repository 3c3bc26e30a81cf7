"""`few_shot/` for segmentation, for hundreds of images: the features are computed once, and kept.

Same variables, and `views`, the number of augmented versions of each image. An epoch has all of
them: 25 epochs of 4 versions are as long as 100 epochs. A version takes 3.2 MB in `cache_dir`.
"""

_base_ = 'vit_dense::few_shot/plain-vit-s-dinov2_linear-ms_1xb4-100e_small-448x448.py'

views = 4
max_epochs = 25
val_interval = 5

model = dict(backbone=dict(vit=dict(type='CachedTimmViT', cache_dir='work_dirs/features')))
inner = _base_.train_dataloader.dataset
train_dataloader = dict(dataset=dict(_delete_=True, type='FixedViews', views=views, dataset=inner))
default_hooks = dict(checkpoint=dict(interval=val_interval))
