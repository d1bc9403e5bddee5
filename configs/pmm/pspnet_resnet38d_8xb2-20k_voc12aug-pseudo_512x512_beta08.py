# PUF with beta = k = 0.8.
_base_ = './pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512.py'
loss = dict(beta=0.8, k=0.8)
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
