# Weight decay of 5e-4 beside the momentum of 5e-4.
_base_ = './acr_vit-b16-hybrid_1xb1-26k_voc12aug-384x384_released.py'
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
