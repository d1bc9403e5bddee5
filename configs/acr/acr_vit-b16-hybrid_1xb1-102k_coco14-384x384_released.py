# What the released code does on COCO, see the one on VOC. Its length counts the files of train2014, each of which needs a
# label; there are 82081 such images. It has no maps and no scores on COCO: those are made here as on VOC.
_base_ = './acr_vit-b16-hybrid_4xb1-102k_coco14-384x384.py'
optim_wrapper = dict(optimizer=dict(lr=0.05, momentum=5e-4, weight_decay=0.0))
train_cfg = dict(max_iters=102601, val_interval=102601)
default_hooks = dict(checkpoint=dict(interval=30000))
randomness = dict(seed=0)
