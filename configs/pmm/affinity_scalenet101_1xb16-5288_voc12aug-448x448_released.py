# As the release trains: one process, as pairs are averaged over the whole batch, rate 0.02, the weight decay as the momentum;
# pools larger than a map as in its code.
# 16 images of 448 px on one GPU need one with a lot of memory.
_base_ = './affinity_scalenet101_4xb4-5288_voc12aug-448x448.py'
model = dict(backbone=dict(official_small_pool=True))
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=5e-4))
train_dataloader = dict(batch_size=16)
