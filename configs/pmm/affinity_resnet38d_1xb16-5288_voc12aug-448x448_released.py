# As the release trains: one process, as pairs are averaged over the whole batch, rate 0.02, the weight decay as the momentum.
# 16 images of 448 px on one GPU need one with a lot of memory.
_base_ = './affinity_resnet38d_4xb4-5288_voc12aug-448x448.py'
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=5e-4))
train_dataloader = dict(batch_size=16)
