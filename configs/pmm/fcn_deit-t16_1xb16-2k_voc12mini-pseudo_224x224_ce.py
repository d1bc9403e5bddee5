# Plain cross entropy.
_base_ = './fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224.py'
model = dict(decode_head=dict(loss_decode=dict(form='none')))
