# The six best patches of every class, no patch contrast, decoder.
_base_ = './apc_deit-t16_1xb16-2k_voc12mini-224x224_top6-pce-dec.py'
model = dict(loss_pce=None)
