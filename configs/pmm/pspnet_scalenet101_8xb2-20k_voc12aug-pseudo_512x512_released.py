# As released: of the checkpoints every 2000 iterations the one with the best score on the validation set is taken, which is
# supervision by pixels; pools larger than a map as in its code.
_base_ = './pspnet_scalenet101_8xb2-20k_voc12aug-pseudo_512x512.py'
model = dict(backbone=dict(official_small_pool=True))
default_hooks = dict(checkpoint=dict(save_best='seg_mIoU', rule='greater'))
train_cfg = dict(val_interval=2000)
