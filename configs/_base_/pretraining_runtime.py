"""What every pretraining config shares, as differences to the runtime of segmentation."""

_base_ = './default_runtime.py'

default_scope = 'mmengine'
# A list in your own config replaces this one: name 'vit_dense.pretraining' in it, before your
# modules, which may lie beside the config.
custom_imports = dict(imports=['vit_dense.pretraining'], allow_failed_imports=False)

log_processor = dict(by_epoch=True)
visualizer = dict(type='Visualizer')

default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    # No best one: the figures of the probe rise and fall before the objective has been learned.
    checkpoint=dict(by_epoch=True, interval=1, save_best=None),
    check=dict(type='PretrainingCheckHook'),
    pictures=dict(type='ReconstructionPicturesHook'),
    feature_cache=None,
)

tta_model = None
