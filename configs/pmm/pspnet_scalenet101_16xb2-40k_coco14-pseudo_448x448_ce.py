# Plain cross entropy in both heads.
_base_ = './pspnet_scalenet101_16xb2-40k_coco14-pseudo_448x448.py'
loss = dict(form='none')
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
