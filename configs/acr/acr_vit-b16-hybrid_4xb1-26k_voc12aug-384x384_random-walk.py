# Pseudo masks by a random walk of the maps along the colours of neighbouring cells, then a dense CRF.
_base_ = ['./acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py', '../_base_/pseudo_labels/random_walk.py']
model = dict(pseudo_labeler={{_base_.pseudo_labeler}})
