# K ends before the largest relative drop of the scores; no patch contrast, no decoder.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384_akp.py'
model = dict(head=dict(pooling=dict(rule='rel_gap')))
