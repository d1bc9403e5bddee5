_base_ = [
    '../_base_/models/vitpcm_vit-b16.py',
    '../_base_/backbones/deit-t16_voc12mini.py',
    '../_base_/datasets/voc12mini_224.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(_base_.pretrained_backbone, drop_rate=0.0),
    neck=dict(in_channels=192, hidden=96),
    head=dict(in_channels=384),
)
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=2000, val_interval=1000)
