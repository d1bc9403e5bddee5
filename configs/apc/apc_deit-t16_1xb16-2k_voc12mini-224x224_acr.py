# ACR's regulariser in APC: maps and the attention between patches agree with those of the mirror image. Weight and layers are
# our choice.
_base_ = ['./apc_deit-t16_1xb16-2k_voc12mini-224x224.py', '../_base_/models/view_pair.py']
model = dict(consistency=_base_.consistency)
