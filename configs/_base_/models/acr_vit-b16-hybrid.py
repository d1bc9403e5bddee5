# ACR on the hybrid of a ResNet-50 and a ViT-B/16, the backbone of the released code.
_base_ = './acr_vit-b16.py'
model = dict(backbone=dict(stem=dict(type='HybridStem')))
