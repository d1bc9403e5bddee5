# PUF; half-way the masks are renewed as in ..._cp.py.
_base_ = './fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_cp.py'
model = dict(decode_head=dict(loss_decode=dict(form='clamp')))
