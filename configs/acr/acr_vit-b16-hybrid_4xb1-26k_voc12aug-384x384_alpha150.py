# Weight 150 of both consistency losses.
_base_ = './acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
model = dict(
    consistency=dict(loss_activation=dict(loss_weight=150.0), loss_affinity=dict(loss_weight=150.0)),
)
