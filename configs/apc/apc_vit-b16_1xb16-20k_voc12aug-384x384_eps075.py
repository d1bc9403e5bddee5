# Patches are confident above 0.75 and below 0.25.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(loss_pce=dict(high=0.75))
