"""What every segmentation config shares: imports, logging, checkpoints, pictures."""

default_scope = 'mmseg'
# Registers our types, and makes mmseg importable without compiled operators. A list in your own
# config replaces this one: name 'vit_dense.segmentation' in it, before your modules, which may
# lie beside the config.
custom_imports = dict(imports=['vit_dense.segmentation'], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # On a machine without GPU, 'gloo' takes its place.
    dist_cfg=dict(backend='nccl'),
)
# BatchNorm becomes SyncBatchNorm if several processes train.
sync_bn = 'torch'

log_level = 'INFO'
log_processor = dict(by_epoch=False)
# For TensorBoard, MLflow or W&B: `train --track NAME`. For other backends, in your config:
# visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='AimVisBackend')])
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)

# To remove one of them, set it to None in your config: default_hooks = dict(pictures=None)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    mean_loss=dict(type='MeanLossHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=16000, max_keep_ckpts=2, save_best='mIoU'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Not in `custom_hooks`, whose list is replaced by a config with hooks of its own.
    check=dict(type='SegCheckHook'),
    normalization=dict(type='NormalizationCheckHook'),
    checkpoint_check=dict(type='CheckpointCheckHook'),
    save_best_check=dict(type='SaveBestCheckHook'),
    pictures=dict(type='SegPicturesHook'),
    plain_history=dict(type='PlainHistoryHook'),
    # A resumed training continues with the random numbers of an uninterrupted one.
    step_seed=dict(type='StepSeedHook'),
    # For backbones on CachedTimmViT, whose features are kept while a training runs.
    feature_cache=dict(type='FeatureCacheHook'),
    non_finite=dict(type='NonFiniteHook', max_skips=0),
    # Signals that batch systems send in advance: warning_signals=['SIGUSR1'].
    stop_signal=dict(type='StopSignalHook'),
)

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
tta_model = dict(type='SegTTAModel')

load_from = None
resume = False
