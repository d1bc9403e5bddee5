_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
model = dict(pseudo_labeler=None)
