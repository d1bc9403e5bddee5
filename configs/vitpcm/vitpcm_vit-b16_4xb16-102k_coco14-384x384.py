# 80 epochs of 82 081 images at 4 GPUs x 16: 1282 iterations an epoch. View 2 is never cropped, the rest is as on VOC.
_base_ = [
    '../_base_/models/vitpcm_vit-b16.py',
    '../_base_/datasets/coco14_384.py',
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
    head=dict(num_classes=81),
    pseudo_labeler={{_base_.pseudo_labeler}},
)
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=102560, val_interval=102560)
