# Classification of one view alone; maps from gradients.
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
model = dict(consistency=None)
