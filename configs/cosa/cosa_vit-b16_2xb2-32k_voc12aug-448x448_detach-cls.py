_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
model = dict(head=dict(detach='weights'), aux_head=dict(detach='weights'))
