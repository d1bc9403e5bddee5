# Classification of one view alone; maps from gradients.
_base_ = './acr_vit-xt8_1xb16-600_shapes-144x144.py'
model = dict(consistency=None)
