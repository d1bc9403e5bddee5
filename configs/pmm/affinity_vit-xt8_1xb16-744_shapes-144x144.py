# The affinity network on the small ViT of the generated data: both blocks are read, cells are its patches of 8 pixels; 8 epochs.
_base_ = [
    '../_base_/models/affinity_resnet38d.py',
    '../_base_/backbones/vit-xt8_shapes.py',
    '../_base_/datasets/shapes_144_affinity.py',
    '../_base_/schedules/affinity_adamw.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        _base_.pretrained_backbone, _delete_=True, type='TokenViT', pos_interp='bilinear', out_indices=(0, 1)
    ),
    head=dict(in_channels=(128, 128), tap_channels=(64, 64)),
    in_index=(0, 1),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [dict(type='WarmupPolyLR', max_iters=744, warmup_iters=50, warmup_ratio=1e-6, power=0.9)]
train_cfg = dict(max_iters=744, val_interval=744)
