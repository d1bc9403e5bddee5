# Settings and behaviour of the released code on COCO 2014; cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py says
# where it does other than the canonical config. Validation in training sees the first 5000 images of val.
_base_ = [
    '../_base_/models/cosa_vit-b16.py',
    '../_base_/datasets/coco14_448_twoviews.py',
    '../_base_/schedules/cosa_32k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        out_indices=[9, 11],
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth',
        ),
    ),
    head=dict(num_classes=81),
    aux_head=dict(num_classes=81),
    decode_head=dict(num_classes=81),
    threshold=dict(high=0.65),
    warmup_iters=10000,
    independent_init=True,
    assignment_eval=False,
    warmup='zero',
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=60000, warmup_iters=1500, warmup_ratio=1e-6, power=0.9)]
train_cfg = dict(max_iters=60000, val_interval=6000)
val_cfg = dict(type='TwoStreamValLoop', select=['pseudo_mIoU+tags', 'maps_mIoU+tags'])
default_hooks = dict(
    checkpoint=dict(save_best=['best_stream/pseudo_mIoU+tags', 'best_stream/maps_mIoU+tags'], rule='greater')
)
randomness = dict(seed=0)
val_dataloader = dict(dataset=dict(indices=5000))  # in training; tests take all 40 137 images
