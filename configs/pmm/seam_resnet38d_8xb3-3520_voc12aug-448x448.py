# First training of PMM's network of maps: SEAM on ResNet38d, images of several scales, 8 epochs; maps of several scales. Run
# soundly, with momentum 0.9; ..._released.py has the optimizer of the release. The release starts from SEAM's own network, see
# tools/model_converters/pmm_seam_to_mmwsss.py; here it starts from ImageNet weights, which MMWSSS_RESNET38D_WEIGHTS names.
_base_ = [
    '../_base_/models/seam_resnet38d.py',
    '../_base_/datasets/voc12aug_448_multiscale.py',
    '../_base_/schedules/pmm_sgd.py',
    '../_base_/default_runtime.py',
]
