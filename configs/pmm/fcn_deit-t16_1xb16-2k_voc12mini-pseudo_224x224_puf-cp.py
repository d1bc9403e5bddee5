# PUF; half-way the masks are renewed as in ..._cp.py.
_base_ = './fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224_cp.py'
model = dict(decode_head=dict(loss_decode=dict(form='clamp')))
