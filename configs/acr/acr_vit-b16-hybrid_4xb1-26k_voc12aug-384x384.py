# The method run soundly: gradients averaged over 4 GPUs, momentum and weight decay in their places, the last checkpoint.
# ..._released.py has the behaviour of the official code. Weights: timm's R50+ViT-B/16, ImageNet-21k then 1k at 384 px.
_base_ = [
    '../_base_/models/acr_vit-b16-hybrid.py',
    '../_base_/datasets/voc12aug_384_longside.py',
    '../_base_/schedules/acr_sgd_26k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_resnet50_384-9fd3c705.pth',
        ),
    )
)
