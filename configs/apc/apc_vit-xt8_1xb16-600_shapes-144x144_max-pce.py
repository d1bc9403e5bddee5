# Maximum pooling, patch contrast, no decoder.
_base_ = './apc_vit-xt8_1xb16-600_shapes-144x144_max-pce-dec.py'
model = dict(decode_head=None, loss_seg=None, online_labeler=None)
