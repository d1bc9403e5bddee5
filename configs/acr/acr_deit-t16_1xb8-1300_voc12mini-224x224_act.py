# Consistency of the attention of the class token only.
_base_ = './acr_deit-t16_1xb8-1300_voc12mini-224x224.py'
model = dict(consistency=dict(loss_affinity=None))
