# Single-stage methods: AdamW, heads ten times faster than the backbone, decay everywhere, warm-up built into the schedule.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0), neck=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=20000, warmup_iters=1500, warmup_ratio=1e-6, power=0.9)]
custom_hooks = [dict(type='IterationHook'), dict(type='PanelHook', num_images=16)]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=20000, val_interval=2000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
