# Adaptive-K pooling, no patch contrast, decoder.
_base_ = './apc_vit-xt8_1xb16-600_shapes-144x144.py'
model = dict(loss_pce=None)
