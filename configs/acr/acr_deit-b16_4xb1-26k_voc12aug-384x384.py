# DeiT-B/16, ImageNet-1k at 384 px, instead of the hybrid.
_base_ = './acr_vit-b16_4xb1-26k_voc12aug-384x384.py'
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='https://dl.fbaipublicfiles.com/deit/deit_base_patch16_384-8de9b5d1.pth'))
)
