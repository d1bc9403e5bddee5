# PSPNet on Res2Net-101 with pretended under-fitting (PUF: clamp, beta = k = 0.5) on pseudo masks of VOC's trainaug list, with the
# settings of PMM's release and the last checkpoint as the result. MMWSSS_PSEUDO_MASKS names the folder of masks.
_base_ = [
    '../_base_/models/pspnet_res2net101.py',
    '../_base_/datasets/voc12aug_512_pseudo_views.py',
    '../_base_/schedules/pmm_seg_20k.py',
    '../_base_/default_runtime.py',
]
