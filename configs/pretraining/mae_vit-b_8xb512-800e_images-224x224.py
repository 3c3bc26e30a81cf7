"""ViT-B from random weights on images without labels, with the published recipe.

Set `data_root` to your folder of images, or to a list of folders, and `probe_root` to one with
images and masks, if there are some. `_base_/datasets/unlabelled.py` has further variables. The
weights are for vit=dict(model_name=..., checkpoint='work_dirs/.../epoch_800.pth').
"""

_base_ = [
    'vit_dense::_base_/models/mae.py',
    'vit_dense::_base_/datasets/unlabelled.py',
    'vit_dense::_base_/schedules/mae_epochs.py',
    'vit_dense::_base_/pretraining_runtime.py',
]

model_name = 'vit_base_patch16_224.mae'
batch_size = 512

model = dict(
    vit=dict(model_name=model_name, model_kwargs=dict(in_chans=len(_base_.mean))),
    data_preprocessor=dict(mean=_base_.mean, std=_base_.std),
)
val_cfg = dict(type='ValLoop') if _base_.probe_root else None
test_cfg = dict(type='TestLoop') if _base_.probe_root else None
default_hooks = dict(checkpoint=dict(interval=_base_.val_interval))
