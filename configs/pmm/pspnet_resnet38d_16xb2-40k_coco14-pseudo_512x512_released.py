# As released: of the checkpoints every 4000 iterations the one with the best score on the validation set is taken. The released
# network has 91 outputs, one for each category id, of which 10 never occur; ours has the 81 that do.
_base_ = './pspnet_resnet38d_16xb2-40k_coco14-pseudo_512x512.py'
default_hooks = dict(checkpoint=dict(save_best='seg_mIoU', rule='greater'))
train_cfg = dict(val_interval=4000)
