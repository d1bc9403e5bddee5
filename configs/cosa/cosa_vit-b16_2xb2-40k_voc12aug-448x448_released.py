# The length that the arguments of the released code default to; its run script sets 32000.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
param_scheduler = [dict(type='WarmupPolyLR', max_iters=40000, warmup_iters=1500, warmup_ratio=1e-6, power=0.9)]
train_cfg = dict(max_iters=40000)
