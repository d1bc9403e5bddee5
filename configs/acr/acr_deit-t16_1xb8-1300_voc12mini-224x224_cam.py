# One view, and maps of the classifier on the patches instead of gradients (test time).
_base_ = './acr_deit-t16_1xb8-1300_voc12mini-224x224_one-view.py'
model = dict(test_cfg=dict(localizer='cam'))
