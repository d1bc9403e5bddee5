# The affinity network on DeiT-Tiny: images are enlarged twice, so that patches of 16 pixels make cells of 8; blocks 6, 9 and 12 are
# read; 8 epochs.
_base_ = [
    '../_base_/models/affinity_resnet38d.py',
    '../_base_/backbones/deit-t16_voc12mini.py',
    '../_base_/datasets/voc12mini_224_affinity.py',
    '../_base_/schedules/affinity_adamw.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        _base_.pretrained_backbone,
        _delete_=True,
        type='TokenViT',
        patch_size=16,
        pos_interp='bilinear',
        out_indices=(5, 8, 11),
    ),
    head=dict(in_channels=(192, 192, 192), tap_channels=(64, 64, 64)),
    in_index=(0, 1, 2),
    scale=2.0,
)
