# ACR: SGD with polynomial decay, 10 epochs of VOC's 10582 images at 4 images a step. The released code hands its weight decay
# over as the momentum, so its rate of 0.05 was found without momentum; with 0.9 every step becomes ten times as long, and a
# tenth of the rate keeps its length. That rate is our choice and not tuned.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='WarmupPolyLR', max_iters=26450, warmup_iters=0, power=0.9)]
custom_hooks = [dict(type='PanelHook', num_images=16)]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=26450, val_interval=26450)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
