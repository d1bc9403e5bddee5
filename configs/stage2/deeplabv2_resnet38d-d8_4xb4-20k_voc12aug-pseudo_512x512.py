# DeepLabV2 on ResNet38d and exported pseudo masks, a second stage for ACR. Its released code has none: head, weights and schedule
# are those of the other stage2 configs. MMWSSS_PSEUDO_MASKS names the folder of masks.
_base_ = [
    '../_base_/models/deeplabv2_resnet38d-d8.py',
    '../_base_/datasets/voc12aug_512_pseudo.py',
    '../_base_/schedules/stage2_sgd_20k.py',
    '../_base_/default_runtime.py',
]
