# The second training as released: rate 0.02, and the weight decay as the momentum too; small maps are pooled as there. The release
# runs one process with 16 images; 8 processes with 2 average to the same gradients, as no batch norm trains.
_base_ = './seam_scalenet101_8xb2-13k_voc12aug-448x448_mc-train.py'
model = dict(backbone=dict(official_small_pool=True))
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=5e-4))
