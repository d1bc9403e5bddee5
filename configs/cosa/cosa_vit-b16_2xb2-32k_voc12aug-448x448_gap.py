_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
pooling = dict(type='GlobalAveragePooling')
model = dict(head=dict(pooling=pooling), aux_head=dict(pooling=pooling))
