# Classification of one view alone; maps from gradients.
_base_ = './acr_deit-t16_1xb8-1300_voc12mini-224x224.py'
model = dict(consistency=None)
