# ACR's regulariser in APC: maps and the attention between patches agree with those of the mirror image. Weight and layers are
# our choice.
_base_ = './apc_deit-t16_1xb16-2k_voc12mini-224x224.py'
model = dict(
    consistency=dict(
        type='ViewPairConsistency',
        layers=(-2, -1),
        activation='maps',
        loss_activation=dict(type='ConsistencyLoss', loss_weight=1.0),
        loss_affinity=dict(type='ConsistencyLoss', loss_weight=125.0),
    )
)
