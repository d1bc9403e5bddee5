# ACR's regulariser in APC: maps and the attention between patches agree with those of the mirror image. Weight and layers are
# our choice.
_base_ = ['./apc_vit-b16_1xb16-20k_voc12aug-384x384.py', '../_base_/models/view_pair.py']
model = dict(consistency=_base_.consistency)
