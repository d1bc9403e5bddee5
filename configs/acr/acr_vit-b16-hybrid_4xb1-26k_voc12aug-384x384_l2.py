# Squared instead of absolute differences.
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
model = dict(consistency=dict(loss_activation=dict(norm='l2'), loss_affinity=dict(norm='l2')))
