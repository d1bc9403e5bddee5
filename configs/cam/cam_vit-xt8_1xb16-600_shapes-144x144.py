# The baseline of vitpcm_vit-xt8_1xb16-600_shapes-144x144: same pretrained backbone, data and schedule, one view.
_base_ = [
    '../_base_/models/cam_vit-b16.py',
    '../_base_/backbones/vit-xt8_shapes.py',
    '../_base_/datasets/shapes_144_oneview.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_base_.pretrained_backbone, drop_rate=0.0, num_trainable_blocks=None),
    head=dict(in_channels=128, num_classes=7),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
custom_hooks = [
    dict(type='TwoPhaseTrainHook', warmup_iters=50, warmup_lr=1e-3, lr=5e-4),
    dict(type='PanelHook', num_images=16),
]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=600, val_interval=600)
