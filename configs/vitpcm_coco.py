_base_ = './vitpcm/vitpcm_vit-b16_4xb16-102k_coco14-384x384.py'
