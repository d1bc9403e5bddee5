# Adaptive-K pooling with the patch contrast, no decoder.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(decode_head=None, loss_seg=None, online_labeler=None)
