_base_ = './acr/acr_vit-b16-hybrid_4xb1-102k_coco14-384x384.py'
