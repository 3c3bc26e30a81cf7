"""What every multi-task config shares, as differences to the runtime of segmentation."""

_base_ = './default_runtime.py'

default_scope = 'mmengine'
# Registers our types. The packages of mmseg and mmdet are imported when a type names them.
custom_imports = dict(imports=['vit_dense.multitask'], allow_failed_imports=False)

# Image sizes may differ from step to step.
env_cfg = dict(cudnn_benchmark=False)
visualizer = dict(type='Visualizer')

default_hooks = dict(
    # Name the figure of a task, such as 'seg/mIoU'.
    checkpoint=dict(save_best=None),
    # One hook for each task, by the library of its type.
    check=dict(
        type='MultiTaskCheckHook',
        hooks=dict(mmseg=dict(type='SegCheckHook'), mmdet=dict(type='DetCheckHook')),
    ),
    # Test the config of a task alone for pictures.
    pictures=None,
)

val_cfg = dict(type='MultiTaskValLoop')
test_cfg = dict(type='MultiTaskTestLoop')
# Test the config of a task alone for test-time augmentation.
tta_model = None
