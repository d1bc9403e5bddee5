# Affinity network on a ViT: AdamW as for the single-stage methods, 8 epochs of the small benchmark's 900 images. No validation:
# the network makes no masks.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=448, warmup_iters=25, warmup_ratio=1e-6, power=0.9)]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=448, val_interval=448)
