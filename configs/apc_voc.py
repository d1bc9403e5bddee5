_base_ = './apc/apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
