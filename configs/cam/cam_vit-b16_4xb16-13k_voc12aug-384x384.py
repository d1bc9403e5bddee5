# The baseline of vitpcm_vit-b16_4xb16-13k_voc12aug-384x384: same backbone, data and schedule, one view.
_base_ = [
    '../_base_/models/cam_vit-b16.py',
    '../_base_/datasets/voc12aug_384_oneview.py',
    '../_base_/schedules/vitpcm_two_phase.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/ViT-B_16.npz',
        )
    )
)
train_cfg = dict(type='ResumableIterBasedTrainLoop', max_iters=13200, val_interval=13200)
