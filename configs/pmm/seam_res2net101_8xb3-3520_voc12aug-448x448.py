# SEAM on Res2Net-101, a network that the release lacks, trained on images of several scales for 8 epochs; maps of several scales.
_base_ = [
    '../_base_/models/seam_res2net101.py',
    '../_base_/datasets/voc12aug_448_multiscale.py',
    '../_base_/schedules/pmm_sgd.py',
    '../_base_/default_runtime.py',
]
