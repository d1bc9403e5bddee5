# PSPNet on ScaleNet-101 with PUF (clamp, beta = k = 0.8) on pseudo masks of COCO 2014, with the settings of PMM's release and the last
# checkpoint as the result; crops of 448 pixels, as the release has them for memory. MMWSSS_PSEUDO_MASKS names the folder of masks.
_base_ = [
    '../_base_/models/pspnet_scalenet101.py',
    '../_base_/datasets/coco14_512_pseudo_views.py',
    '../_base_/schedules/pmm_seg_40k.py',
    '../_base_/default_runtime.py',
]
train_pipeline = [
    dict(step, crop_size=(448, 448)) if step['type'] == 'RandomCrop' else step for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
loss = dict(beta=0.8, k=0.8)
model = dict(
    data_preprocessor=dict(size=(448, 448)),
    decode_head=dict(num_classes=81, loss_decode=loss),
    auxiliary_head=dict(num_classes=81, loss_decode=loss),
)
default_hooks = dict(checkpoint=dict(interval=4000))
