# ACR's regulariser in ViT-PCM: maps of view 1 and the attention between its patches agree with those of its mirror image.
# Weight and layers are our choice.
_base_ = ['./vitpcm_deit-t16_1xb16-2k_voc12mini-224x224.py', '../_base_/models/view_pair.py']
model = dict(consistency=_base_.consistency)
