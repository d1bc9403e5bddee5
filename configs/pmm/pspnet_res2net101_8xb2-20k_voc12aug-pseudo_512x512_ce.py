# Plain cross entropy in both heads; also what PMM trains a second time, on the predictions of the first network (CP).
_base_ = './pspnet_res2net101_8xb2-20k_voc12aug-pseudo_512x512.py'
loss = dict(form='none')
model = dict(decode_head=dict(loss_decode=loss), auxiliary_head=dict(loss_decode=loss))
