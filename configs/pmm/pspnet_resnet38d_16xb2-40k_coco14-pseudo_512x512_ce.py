# Plain cross entropy in both heads.
_base_ = './pspnet_resnet38d_16xb2-40k_coco14-pseudo_512x512.py'
loss = dict(form='none')
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
