# What the released code does on VOC. Its script starts 4 processes, but they never average their gradients and one of them is
# kept: that is one process with batches of one image, 10582 // 4 * 10 + 1 updates, about 2.5 epochs. Its weight decay of 5e-4
# ends up as the momentum of SGD, and nothing decays. The rate of the last update is that of the one before.
# Not the same: its image labels come from a file of its own, here from the masks, and random numbers differ.
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
optim_wrapper = dict(optimizer=dict(lr=0.05, momentum=5e-4, weight_decay=0.0))
train_cfg = dict(max_iters=26451, val_interval=26451)
default_hooks = dict(checkpoint=dict(interval=5000))
randomness = dict(seed=0)
