# SEAM on ScaleNet-101 for COCO 2014: no crops and no stored maps in training, as in the release, the iterations of 20 epochs
# of the 82081 images with a label at 8 images a step (see _base_/datasets/coco14.py); maps of crops. 81 classes; momentum 0.9, half
# the rate of VOC.
_base_ = [
    '../_base_/models/seam_scalenet101.py',
    '../_base_/models/crops_448.py',
    '../_base_/datasets/coco14_448_multiscale.py',
    '../_base_/schedules/pmm_sgd.py',
    '../_base_/default_runtime.py',
]
model = dict(head=dict(num_classes=81), test_cfg=dict(views=_base_.crops))
optim_wrapper = dict(optimizer=dict(lr=0.001))
param_scheduler = [dict(type='WarmupPolyLR', max_iters=205200, warmup_iters=0, power=0.9)]
train_cfg = dict(max_iters=205200, val_interval=205200)
val_dataloader = dict(dataset=dict(indices=5000))  # in training; tests take all 40 137 images
