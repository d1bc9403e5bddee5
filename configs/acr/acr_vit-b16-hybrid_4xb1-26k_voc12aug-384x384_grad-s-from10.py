# Maps of form grad_s, summed over the blocks from 10 on, counted from 0 (test time).
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
model = dict(test_cfg=dict(form='grad_s'))
