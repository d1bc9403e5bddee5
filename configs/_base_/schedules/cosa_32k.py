# CoSA: AdamW, heads ten times faster than the backbone, decay everywhere, warm-up built into the polynomial schedule.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='FrozenPartsOptimWrapperConstructor',  # says once that the assignment network is not optimized
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=32000, warmup_iters=1500, warmup_ratio=1e-6, power=0.9)]
custom_hooks = [dict(type='AssignmentHook'), dict(type='PanelHook', num_images=16)]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=32000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
