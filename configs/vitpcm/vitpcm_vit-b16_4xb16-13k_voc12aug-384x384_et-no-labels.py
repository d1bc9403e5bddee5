_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
# The equivariance target without the image labels, as the paper's figure shows it.
model = dict(loss_et=dict(use_labels=False))
