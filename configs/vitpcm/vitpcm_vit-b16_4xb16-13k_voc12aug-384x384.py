# 80 epochs of 10582 images at 4 GPUs x 16: 165 iterations an epoch. The last checkpoint is the result.
_base_ = [
    '../_base_/models/vitpcm_vit-b16.py',
    '../_base_/datasets/voc12aug_384.py',
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
    pseudo_labeler={{_base_.pseudo_labeler}},
)
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=13200, val_interval=13200)
