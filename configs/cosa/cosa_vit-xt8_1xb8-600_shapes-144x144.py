# The demo: the full method on generated data. The backbone is small, has a convolutional stem and comes from
# configs/pretrain_shapes.py, which has to run first; MMWSSS_SHAPES_WEIGHTS names another checkpoint.
_base_ = [
    '../_base_/models/cosa_vit-b16_full.py',
    '../_base_/backbones/vit-xt8_shapes.py',
    '../_base_/datasets/shapes_144_twoviews.py',
    '../_base_/schedules/cosa_32k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_base_.pretrained_backbone, out_indices=[0, 1]),
    head=dict(in_channels=128, num_classes=7),
    aux_head=dict(in_channels=128, num_classes=7),
    decode_head=dict(in_channels=128, channels=64, num_classes=7),
    threshold=dict(size=144, cell=8),
    aux_threshold=dict(size=144, cell=8),
    warmup_iters=150,
    momentum=0.99,
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))  # heads learn ten times faster, as everywhere
param_scheduler = [dict(type='WarmupPolyLR', max_iters=600, warmup_iters=50, warmup_ratio=1e-6, power=0.9)]
train_dataloader = dict(batch_size=8)  # x 1 GPU
train_cfg = dict(max_iters=600, val_interval=600)
