# DeepLabV3 on exported pseudo masks, one of the second-stage networks that CoSA's code names (CoSA-MS). It gives no training
# settings for them: the schedule is ours, that of the other stage2 configs. MMWSSS_PSEUDO_MASKS names the folder of masks.
_base_ = [
    '../_base_/models/deeplabv3_r101-d8.py',
    '../_base_/datasets/voc12aug_512_pseudo.py',
    '../_base_/schedules/stage2_sgd_20k.py',
    '../_base_/default_runtime.py',
]
