# As released, the second training of CP: plain cross entropy on the predictions of the first network.
_base_ = './pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512_released.py'
loss = dict(form='none')
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
