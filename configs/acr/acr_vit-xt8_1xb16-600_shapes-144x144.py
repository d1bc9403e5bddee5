# The demo: the method on generated data, with the optimizer of CoSA's demo, as its network is trained from a backbone whose
# class token has learnt nothing. That one comes from configs/pretrain_shapes.py, which has to run first;
# MMWSSS_SHAPES_WEIGHTS names another checkpoint. With weights of 125 or 12 both consistency
# losses fall to almost 0 within 100 iterations and the classification hardly learns; hence 2 (trials of 150 iterations).
_base_ = [
    '../_base_/models/acr_vit-b16.py',
    '../_base_/backbones/vit-xt8_shapes.py',
    '../_base_/datasets/shapes_144_longside.py',
    '../_base_/schedules/adamw_poly_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=_base_.pretrained_backbone,
    head=dict(in_channels=128, num_classes=7),
    consistency=dict(loss_activation=dict(loss_weight=2.0), loss_affinity=dict(loss_weight=2.0)),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))  # heads learn ten times faster, as everywhere
param_scheduler = [dict(type='WarmupPolyLR', max_iters=600, warmup_iters=50, warmup_ratio=1e-6, power=0.9)]
custom_hooks = [dict(type='PanelHook', num_images=16)]
train_cfg = dict(max_iters=600, val_interval=600)
