# Momentum 0.9 and a tenth of the rate, no weight decay.
_base_ = './acr_vit-b16-hybrid_1xb1-26k_voc12aug-384x384_released.py'
optim_wrapper = dict(optimizer=dict(lr=0.005, momentum=0.9))
