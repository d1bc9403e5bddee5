# ACR's regulariser in APC: maps and the attention between patches agree with those of the mirror image. Weight and layers are
# our choice.
_base_ = ['./apc_vit-xt8_1xb16-600_shapes-144x144.py', '../_base_/models/view_pair.py']
model = dict(consistency=_base_.consistency)
