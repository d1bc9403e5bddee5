# CoSA: the schedule of single-stage methods, with the hook that moves the assignment network.
_base_ = './adamw_poly_20k.py'
optim_wrapper = dict(
    constructor='FrozenPartsOptimWrapperConstructor'  # says once that the assignment network is not optimized
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=32000, warmup_iters=1500, warmup_ratio=1e-6, power=0.9)]
custom_hooks = [dict(type='AssignmentHook'), dict(type='PanelHook', num_images=16)]
train_cfg = dict(max_iters=32000, val_interval=4000)
