# ACR on COCO 2014, 81 classes: weight 100 of both losses, 5 epochs of the 82081 images with a label at 4 images a step.
_base_ = [
    '../_base_/models/acr_vit-b16-hybrid.py',
    '../_base_/datasets/coco14_384_longside.py',
    '../_base_/schedules/acr_sgd_26k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_resnet50_384-9fd3c705.pth',
        ),
    ),
    head=dict(num_classes=81),
    consistency=dict(loss_activation=dict(loss_weight=100.0), loss_affinity=dict(loss_weight=100.0)),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=102600, warmup_iters=0, power=0.9)]
train_cfg = dict(max_iters=102600, val_interval=102600)
val_dataloader = dict(dataset=dict(indices=5000))  # in training; tests take all 40 137 images
