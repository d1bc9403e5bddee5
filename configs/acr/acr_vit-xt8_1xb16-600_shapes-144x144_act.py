# Consistency of the attention of the class token only.
_base_ = './acr_vit-xt8_1xb16-600_shapes-144x144.py'
model = dict(consistency=dict(loss_affinity=None))
