# APC's adaptive-K pooling and patch contrast in CoSA.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_akp.py'
model = dict(loss_pce=dict(type='PatchContrastLoss', high=0.85, include_bg=True, loss_weight=0.1))
