# No conditioning: the classifier and the contrast read the backbone's tokens.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(neck=None, head=dict(in_channels=768), embedding='backbone')
