# Weight 0.05 of the patch contrast.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(loss_pce=dict(loss_weight=0.05))
