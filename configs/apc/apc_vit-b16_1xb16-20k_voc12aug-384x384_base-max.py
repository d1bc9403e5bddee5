# The start of the ablation: maximum pooling, no patch contrast, no decoder.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384_pce.py'
model = dict(loss_pce=None)
