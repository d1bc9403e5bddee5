# ViT-PCM: one epoch of neck and head at 1e-3, then all trainable parameters at 1e-4 with a fresh Adam, no decay.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999), eps=1e-7))
param_scheduler = []
custom_hooks = [
    dict(type='TwoPhaseTrainHook', warmup_epochs=1, warmup_lr=1e-3, lr=1e-4),
    dict(type='PanelHook', num_images=16),
]
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
