# One view, and maps of the classifier on the patches instead of gradients (test time).
_base_ = './acr_vit-xt8_1xb16-600_shapes-144x144_one-view.py'
model = dict(test_cfg=dict(localizer='cam'))
