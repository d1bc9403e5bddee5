default_scope = 'mmwsss'
custom_imports = dict(imports=['mmwsss', 'mmwsss.register_all'], allow_failed_imports=False)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # In seconds; processes wait for each other while masks are exported or renewed, and for the first to score them.
    dist_cfg=dict(backend='nccl', timeout=3 * 3600),
)
randomness = dict(seed=1234)
log_level = 'INFO'
log_processor = dict(by_epoch=False, window_size=50)
load_from = None
resume = False
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
default_hooks = dict(
    # Losses are read from the device when the log needs them, not in every step.
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # The last checkpoint is the result: choosing one by validation masks would be supervision by pixels.
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    iteration_seed=dict(type='IterationSeedHook'),
    # A loss that is nan or infinite ends the training; non_finite='skip' skips the step.
    non_finite=dict(type='NonFiniteLossHook'),
    # Lists at the end what a dataset with skip_corrupt=True could not read.
    corrupt_images=dict(type='CorruptImagesHook'),
    # SIGTERM and SIGUSR1 save a checkpoint and end the training with status 75.
    preemption=dict(type='PreemptionHook'),
    visualization=dict(type='SegVisualizationHook'),
)
