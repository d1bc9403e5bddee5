# Optimizer of the released code with the gradients averaged over 4 GPUs, which its script means to do.
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
optim_wrapper = dict(optimizer=dict(lr=0.05, momentum=5e-4, weight_decay=0.0))
