# Mean of all patches instead of adaptive K; contrast and decoder as in the full method.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(head=dict(pooling=dict(_delete_=True, type='GlobalAveragePooling')))
