# SEAM on ScaleNet-50, trained on images of several scales for 8 epochs; maps of several scales.
_base_ = [
    '../_base_/models/seam_scalenet50.py',
    '../_base_/datasets/voc12aug_448_multiscale.py',
    '../_base_/schedules/pmm_sgd.py',
    '../_base_/default_runtime.py',
]
