# Adaptive-K pooling, patch contrast, no decoder.
_base_ = './apc_deit-t16_1xb16-2k_voc12mini-224x224.py'
model = dict(decode_head=None, loss_seg=None, online_labeler=None)
