# The baseline of vitpcm_deit-t16_1xb16-2k_voc12mini-224x224: same backbone, data and schedule, one view.
_base_ = [
    '../_base_/models/cam_vit-b16.py',
    '../_base_/backbones/deit-t16_voc12mini.py',
    '../_base_/datasets/voc12mini_224_oneview.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(_base_.pretrained_backbone, drop_rate=0.0),
    head=dict(in_channels=192),
)
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=2000, val_interval=1000)
