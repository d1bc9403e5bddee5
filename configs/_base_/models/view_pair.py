# ACR's regulariser for other methods: maps and the attention between patches agree with those of the mirror image. Weights and
# layers are our choice.
consistency = dict(
    type='ViewPairConsistency',
    layers=(-2, -1),
    activation='maps',
    loss_activation=dict(type='ConsistencyLoss', loss_weight=1.0),
    loss_affinity=dict(type='ConsistencyLoss', loss_weight=125.0),
)
