# TKP-PCL, the predecessor in two stages: the six best patches of every class and the patch contrast, with the data, the
# schedule and the pseudo masks of ViT-PCM. These masks train a network of configs/stage2. 2 epochs of warm-up are 330
# iterations. _delete_: another class.
_base_ = [
    '../_base_/models/apc_vit-b16.py',
    '../_base_/datasets/voc12aug_384_oneview.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
    '../_base_/pseudo_labels/crf.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/ViT-B_16.npz',
        )
    ),
    head=dict(pooling=dict(_delete_=True, type='TopKPooling', k=6)),
    decode_head=None,
    loss_seg=None,
    online_labeler=None,
    warmup_iters=330,
    pseudo_labeler={{_base_.pseudo_labeler}},
)
custom_hooks = [
    dict(type='TwoPhaseTrainHook', warmup_epochs=1, warmup_lr=1e-3, lr=1e-4),
    dict(type='IterationHook'),
    dict(type='PanelHook', num_images=16),
]
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=13200, val_interval=13200)
