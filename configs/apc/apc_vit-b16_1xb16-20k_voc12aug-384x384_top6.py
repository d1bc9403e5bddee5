# The six best patches of every class, no patch contrast, no decoder.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384_top6-full.py'
model = dict(loss_pce=None, decode_head=None, loss_seg=None, online_labeler=None)
