# The full method: reliability weights, contrastive separation and one searched threshold on top of the released losses. The
# assignment network starts as a copy of the online one and runs without dropout, intermediate maps come from all scales,
# and the last checkpoint is the result. ..._released.py has the behaviour of the official code.
# Weights: timm's ViT-B/16, ImageNet-21k then 1k.
_base_ = [
    '../_base_/models/cosa_vit-b16_full.py',
    '../_base_/datasets/voc12aug_448_twoviews.py',
    '../_base_/schedules/cosa_32k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth',
        ),
    )
)
