# APC's patch contrast in CoSA, of the patches that the assignment network is confident of.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448.py'
model = dict(loss_pce=dict(type='PatchContrastLoss', high=0.85, include_bg=True, loss_weight=0.1))
