# As released: rate 0.01, the weight decay as the momentum too, small maps pooled as there. Not the same: the release has 91 classes,
# ten of which never occur.
_base_ = './seam_scalenet101_8xb1-205k_coco14-448x448.py'
model = dict(backbone=dict(official_small_pool=True))
optim_wrapper = dict(optimizer=dict(lr=0.01, momentum=5e-4))
