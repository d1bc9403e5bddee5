# Affinity network of PMM's release: 8 epochs of VOC's 10582 images at 16 images a step, the new layers ten times faster. The
# release hands its weight decay over as the momentum, so its rate of 0.02 goes without momentum; with 0.9 every step becomes
# ten times as long, and a tenth of the rate keeps its length. That rate is our choice and not tuned.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.002, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=5288, warmup_iters=0, power=0.9)]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=5288, val_interval=5288)
