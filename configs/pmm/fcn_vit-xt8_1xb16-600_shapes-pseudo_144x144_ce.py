# Plain cross entropy.
_base_ = './fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144.py'
model = dict(decode_head=dict(loss_decode=dict(form='none')))
