# The published log validates in the second half only; its other settings are those of the run script.
_base_ = './cosa_vit-b16_2xb4-60k_coco14-448x448_released.py'
train_cfg = dict(val_begin=30000)
