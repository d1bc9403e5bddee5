# ACR's regulariser in ViT-PCM: maps of view 1 and the attention between its patches agree with those of its mirror image.
# Weight and layers are our choice.
_base_ = './vitpcm_vit-b16_4xb16-13k_voc12aug-384x384.py'
model = dict(
    consistency=dict(
        type='ViewPairConsistency',
        layers=(-2, -1),
        activation='maps',
        loss_activation=dict(type='ConsistencyLoss', loss_weight=1.0),
        loss_affinity=dict(type='ConsistencyLoss', loss_weight=125.0),
    )
)
