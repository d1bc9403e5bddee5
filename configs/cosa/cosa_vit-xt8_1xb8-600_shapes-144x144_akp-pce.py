# APC's adaptive-K pooling and patch contrast in CoSA.
_base_ = './cosa_vit-xt8_1xb8-600_shapes-144x144_akp.py'
model = dict(loss_pce=dict(type='PatchContrastLoss', high=0.85, include_bg=True, loss_weight=0.1))
