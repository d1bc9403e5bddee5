# Segmentation of PMM on VOC: SGD with polynomial decay to a floor. Scores are taken once, at the end: the last checkpoint is the
# result.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=20000, by_epoch=False)]
custom_hooks = [dict(type='PanelHook', num_images=16)]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=20000, val_interval=20000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
