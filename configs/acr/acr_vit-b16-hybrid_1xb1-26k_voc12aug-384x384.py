# The canonical optimizer on one GPU: a quarter of the images in as many steps.
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
