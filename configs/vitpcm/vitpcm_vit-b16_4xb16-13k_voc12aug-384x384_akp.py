# APC's adaptive-K pooling in ViT-PCM.
_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
model = dict(head=dict(pooling=dict(type='AdaptiveKPooling', rule='ratio', tau=0.9, kmin=2, kmax=10)))
