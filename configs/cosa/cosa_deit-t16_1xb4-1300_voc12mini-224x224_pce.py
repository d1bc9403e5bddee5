# APC's patch contrast in CoSA, of the patches that the assignment network is confident of.
_base_ = './cosa_deit-t16_1xb4-1300_voc12mini-224x224.py'
model = dict(loss_pce=dict(type='PatchContrastLoss', high=0.85, include_bg=True, loss_weight=0.1))
