# The six best patches of every class, no patch contrast, no decoder.
_base_ = './apc_vit-xt8_1xb16-600_shapes-144x144_top6-pce.py'
model = dict(loss_pce=None)
