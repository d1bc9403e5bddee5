# UPerNet with Swin-B on exported pseudo masks, one of the second-stage networks that CoSA's code names (CoSA-MS). It gives no
# training settings for them: optimizer and decay are those of mmseg's Swin configs, the length is ours. MMWSSS_PSEUDO_MASKS
# names the folder of masks.
_base_ = [
    '../_base_/models/upernet_swin-b.py',
    '../_base_/datasets/voc12aug_512_pseudo.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0), norm=dict(decay_mult=0.0)),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=40000, by_epoch=False),
]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=40000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
