# Consistency of the attention of the class token only.
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
model = dict(consistency=dict(loss_affinity=None))
