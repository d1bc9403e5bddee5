_base_ = './apc/apc_vit-b16_1xb16-40k_coco14-384x384.py'
