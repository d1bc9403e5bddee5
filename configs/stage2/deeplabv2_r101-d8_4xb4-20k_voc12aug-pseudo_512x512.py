# DeepLabV2 on exported pseudo masks, the second-stage network of the paper of ACR. Its released code has no second stage:
# backbone weights and schedule are those of the other stage2 configs. MMWSSS_PSEUDO_MASKS names the folder of masks.
_base_ = [
    '../_base_/models/deeplabv2_r101-d8.py',
    '../_base_/datasets/voc12aug_512_pseudo.py',
    '../_base_/schedules/stage2_sgd_20k.py',
    '../_base_/default_runtime.py',
]
