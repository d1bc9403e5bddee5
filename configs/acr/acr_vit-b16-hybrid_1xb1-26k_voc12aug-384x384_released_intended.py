# What the arguments of the released code say: rate 0.05, momentum 0.9, weight decay 5e-4.
_base_ = './acr_vit-b16-hybrid_1xb1-26k_voc12aug-384x384_released.py'
optim_wrapper = dict(optimizer=dict(momentum=0.9, weight_decay=5e-4))
