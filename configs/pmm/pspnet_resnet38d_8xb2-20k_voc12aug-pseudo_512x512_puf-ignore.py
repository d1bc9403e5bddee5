# PUF that leaves out the pixels with a loss above k.
_base_ = './pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512.py'
loss = dict(form='ignore')
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
