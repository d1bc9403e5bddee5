# The full method on COCO 2014, 81 classes: longer warm-up and schedule than on VOC, intermediate maps from block 9.
_base_ = [
    '../_base_/models/cosa_vit-b16_full.py',
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
    threshold=dict(rows=400, high=0.65),
    aux_threshold=dict(rows=400),
    warmup_iters=10000,
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=60000, warmup_iters=1500, warmup_ratio=1e-6, power=0.9)]
train_cfg = dict(max_iters=60000, val_interval=6000)
val_dataloader = dict(dataset=dict(indices=5000))  # in training; tests take all 40 137 images
