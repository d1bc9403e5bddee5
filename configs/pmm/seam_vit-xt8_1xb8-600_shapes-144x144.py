# SEAM on the small ViT of the generated data, with the optimizer of the other methods there. The backbone comes from
# configs/pretrain_shapes.py, which has to run first; MMWSSS_SHAPES_WEIGHTS names another checkpoint. Without the warm-up of
# loss_er all maps were negative after 150 iterations.
_base_ = [
    '../_base_/models/seam_vit.py',
    '../_base_/backbones/vit-xt8_shapes.py',
    '../_base_/datasets/shapes_144_multiscale.py',
    '../_base_/schedules/adamw_poly_20k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_base_.pretrained_backbone, out_indices=(0, 1)),
    head=dict(in_channels=128, num_classes=7),
    warmup_iters=300,
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))  # heads learn ten times faster, as everywhere
param_scheduler = [dict(type='WarmupPolyLR', max_iters=600, warmup_iters=50, warmup_ratio=1e-6, power=0.9)]
custom_hooks = [dict(type='IterationHook'), dict(type='PanelHook', num_images=16)]
train_cfg = dict(max_iters=600, val_interval=600)
