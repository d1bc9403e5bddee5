# APC's adaptive-K pooling in ViT-PCM.
_base_ = './vitpcm_deit-t16_1xb16-2k_voc12mini-224x224.py'
model = dict(head=dict(pooling=dict(type='AdaptiveKPooling', rule='ratio', tau=0.9, kmin=2, kmax=10)))
