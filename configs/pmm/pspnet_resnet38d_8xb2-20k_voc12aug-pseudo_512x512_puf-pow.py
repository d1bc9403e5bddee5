# PUF by a power of the loss of each pixel.
_base_ = './pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512.py'
loss = dict(form='pow')
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
