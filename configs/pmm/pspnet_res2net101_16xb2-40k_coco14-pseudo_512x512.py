# PSPNet on Res2Net-101 with PUF (clamp, beta = k = 0.8) on pseudo masks of COCO 2014, with the settings of PMM's release and the last
# checkpoint as the result. MMWSSS_PSEUDO_MASKS names the folder of masks.
_base_ = [
    '../_base_/models/pspnet_res2net101.py',
    '../_base_/datasets/coco14_512_pseudo_views.py',
    '../_base_/schedules/pmm_seg_40k.py',
    '../_base_/default_runtime.py',
]
loss = dict(beta=0.8, k=0.8)
model = dict(
    decode_head=dict(num_classes=81, loss_decode=loss),
    auxiliary_head=dict(num_classes=81, loss_decode=loss),
)
default_hooks = dict(checkpoint=dict(interval=4000))
