# The small benchmark of real photographs with the released settings, a short schedule.
_base_ = [
    '../_base_/models/cosa_vit-b16.py',
    '../_base_/backbones/deit-t16_voc12mini.py',
    '../_base_/datasets/voc12mini_224_twoviews.py',
    '../_base_/schedules/cosa_32k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.pretrained_backbone,
    head=dict(in_channels=192),
    aux_head=dict(in_channels=192),
    decode_head=dict(in_channels=192),
    warmup_iters=300,
    momentum=0.99,
    independent_init=True,
    assignment_eval=False,
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=1300, warmup_iters=75, warmup_ratio=1e-6, power=0.9)]
train_cfg = dict(max_iters=1300, val_interval=1300)
