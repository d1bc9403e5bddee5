# Maps are not spread by the attention between patches (test time).
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
model = dict(test_cfg=dict(affinity=False))
