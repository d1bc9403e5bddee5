# Settings and behaviour of the released code, run script for VOC. It has no reliability weights, no contrastive separation and
# two fixed thresholds. Where it does other than the canonical config:
# - the assignment network starts with random heads of its own, not as a copy, and runs in training mode;
# - in the warm-up the swapped losses are computed and multiplied by 0;
# - intermediate maps come from the last scale only (the default of aux_scales);
# - checkpoints are chosen by true masks of val, scored with the image labels (its "Seg_vd", and its CAMs apart), as the
#   better of both networks. Take iter_32000.pth for a result without such a choice.
# Its image labels come from a file of its own, here from the masks; its sampler drops the odd image of val on two GPUs.
_base_ = [
    '../_base_/models/cosa_vit-b16.py',
    '../_base_/datasets/voc12aug_448_twoviews.py',
    '../_base_/schedules/cosa_32k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth',
        ),
    ),
    independent_init=True,
    assignment_eval=False,
    warmup='zero',
)
train_cfg = dict(val_interval=2000)
val_cfg = dict(type='TwoStreamValLoop', select=['pseudo_mIoU+tags', 'maps_mIoU+tags'])
default_hooks = dict(
    checkpoint=dict(save_best=['best_stream/pseudo_mIoU+tags', 'best_stream/maps_mIoU+tags'], rule='greater')
)
randomness = dict(seed=0)
