# Segmentation of PMM on COCO: twice the rate, half the floor and twice the length of pmm_seg_20k.py.
_base_ = './pmm_seg_20k.py'
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(type='PolyLR', eta_min=5e-5, power=0.9, begin=0, end=40000, by_epoch=False)]
train_cfg = dict(max_iters=40000, val_interval=40000)
