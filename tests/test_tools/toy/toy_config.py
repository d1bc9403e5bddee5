default_scope = 'mmwsss'
custom_imports = dict(imports=['mmwsss', 'toy_segmentor'])
model = dict(type='ToySegmentor')
train_dataloader = dict(
    batch_size=2,
    dataset=dict(type='ToyDataset'),
    sampler=dict(type='InfiniteSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)
test_dataloader = dict(
    batch_size=1,
    dataset=dict(type='ToyDataset'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)
test_evaluator = dict(type='WSSSMetric')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl'))
randomness = dict(seed=3)
