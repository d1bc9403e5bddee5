# Adaptive-K pooling by the ratio of scores, no patch contrast, no decoder.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384_akp-pce.py'
model = dict(loss_pce=None)
