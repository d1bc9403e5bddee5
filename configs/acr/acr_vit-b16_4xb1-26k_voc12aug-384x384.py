# A plain ViT-B/16 instead of the hybrid. Weights: timm's ViT-B/16, ImageNet-21k then 1k at 384 px.
_base_ = [
    '../_base_/models/acr_vit-b16.py',
    '../_base_/datasets/voc12aug_384_longside.py',
    '../_base_/schedules/acr_sgd_26k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_p16_384-83fb41ba.pth',
        ),
    )
)
