# The published log: intermediate maps from block 9 (aux_layer -3), a lower low threshold, late validation.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
model = dict(backbone=dict(out_indices=[9, 11]), threshold=dict(low=0.2))
train_cfg = dict(val_begin=16000, val_interval=4000)
