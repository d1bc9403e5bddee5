# PUF with beta = k = 0.3.
_base_ = './pspnet_res2net101_8xb2-20k_voc12aug-pseudo_512x512.py'
loss = dict(beta=0.3, k=0.3)
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
