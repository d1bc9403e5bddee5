_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
# The teacher reuses the training forward: one forward less a step.
model = dict(teacher='train_detach')
