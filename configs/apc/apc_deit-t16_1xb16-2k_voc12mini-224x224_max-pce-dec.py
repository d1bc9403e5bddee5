# Maximum pooling, patch contrast, decoder.
_base_ = './apc_deit-t16_1xb16-2k_voc12mini-224x224.py'
model = dict(head=dict(pooling=dict(_delete_=True, type='GlobalMaxPooling')))
