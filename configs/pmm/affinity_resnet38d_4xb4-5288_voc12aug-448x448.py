# The affinity network of PMM's release (PSA) on ResNet38d, which learns from maps of any method; rate and momentum differ from the
# release, see the schedule. MMWSSS_RESNET38D_WEIGHTS names ImageNet weights with the official names.
_base_ = [
    '../_base_/models/affinity_resnet38d.py',
    '../_base_/datasets/voc12aug_448_affinity.py',
    '../_base_/schedules/affinity_sgd_8e.py',
    '../_base_/default_runtime.py',
]
