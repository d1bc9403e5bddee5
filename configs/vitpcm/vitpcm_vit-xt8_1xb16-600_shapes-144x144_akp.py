# APC's adaptive-K pooling in ViT-PCM.
_base_ = './vitpcm_vit-xt8_1xb16-600_shapes-144x144.py'
model = dict(head=dict(pooling=dict(type='AdaptiveKPooling', rule='ratio', tau=0.9, kmin=2, kmax=10)))
