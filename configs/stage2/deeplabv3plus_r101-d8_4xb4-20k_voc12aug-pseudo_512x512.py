# An ordinary network of mmseg on exported pseudo masks of VOC's trainaug list; MMWSSS_PSEUDO_MASKS names their folder.
_base_ = [
    '../_base_/models/deeplabv3plus_r101-d8.py',
    '../_base_/datasets/voc12aug_512_pseudo.py',
    '../_base_/schedules/stage2_sgd_20k.py',
    '../_base_/default_runtime.py',
]
