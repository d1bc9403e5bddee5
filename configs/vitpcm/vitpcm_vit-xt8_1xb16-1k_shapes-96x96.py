_base_ = [
    '../_base_/models/vitpcm_vit-b16.py',
    '../_base_/datasets/shapes_96.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
# Trained from scratch, hence a small network of which everything trains, at a higher rate and without dropout.
model = dict(
    backbone=dict(
        arch='vit-xt',
        img_size=96,
        patch_size=8,
        drop_rate=0.0,
        num_trainable_blocks=None,
    ),
    neck=dict(in_channels=128, hidden=32, dropout=0.1),
    head=dict(in_channels=128, num_classes=7, dropout=0.1),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
custom_hooks = [
    dict(type='TwoPhaseTrainHook', warmup_epochs=1, warmup_lr=1e-3, lr=5e-4),
    dict(type='PanelHook', num_images=16),
]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=1000, val_interval=500)
