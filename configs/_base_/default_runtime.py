"""What every segmentation config shares: imports, logging, checkpoints, pictures."""

default_scope = 'mmseg'
# One import registers everything of ours and lets mmseg import on wheels without compiled ops.
custom_imports = dict(imports=['vit_dense.segmentation'], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# BatchNorm becomes SyncBatchNorm where several processes train, and stays as it is elsewhere.
sync_bn = 'torch'

log_level = 'INFO'
log_processor = dict(by_epoch=False)
# For TensorBoard: vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=16000, max_keep_ckpts=2, save_best='mIoU'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Here and not in `custom_hooks`, whose list a config with hooks of its own replaces.
    check=dict(type='SegCheckHook'),
    normalization=dict(type='NormalizationCheckHook'),
    checkpoint_check=dict(type='CheckpointCheckHook'),
    pictures=dict(type='SegPicturesHook'),
    plain_history=dict(type='PlainHistoryHook'),
)

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
tta_model = dict(type='SegTTAModel')

load_from = None
resume = False
