# SEAM on DeiT-Tiny, on the small benchmark of real photographs, with the optimizer of the other methods there.
_base_ = [
    '../_base_/models/seam_vit.py',
    '../_base_/backbones/deit-t16_voc12mini.py',
    '../_base_/datasets/voc12mini_224_multiscale.py',
    '../_base_/schedules/adamw_poly_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.pretrained_backbone,
    head=dict(in_channels=192),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=1300, warmup_iters=50, warmup_ratio=1e-6, power=0.9)]
custom_hooks = [dict(type='IterationHook'), dict(type='PanelHook', num_images=16)]
train_cfg = dict(max_iters=1300, val_interval=1300)
