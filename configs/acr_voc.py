_base_ = './acr/acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
