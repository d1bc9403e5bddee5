# Maximum pooling, no patch contrast, no decoder.
_base_ = './apc_deit-t16_1xb16-2k_voc12mini-224x224_max-pce.py'
model = dict(loss_pce=None)
