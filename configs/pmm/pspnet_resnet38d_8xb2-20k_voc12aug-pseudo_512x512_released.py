# As released: of the checkpoints every 2000 iterations the one with the best score on the validation set is taken, which is
# supervision by pixels.
_base_ = './pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512.py'
default_hooks = dict(checkpoint=dict(save_best='seg_mIoU', rule='greater'))
train_cfg = dict(val_interval=2000)
