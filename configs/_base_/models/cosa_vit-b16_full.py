# CoSA with the three techniques of the paper: reliability weights, contrastive separation and one searched threshold.
_base_ = './cosa_vit-b16.py'
model = dict(
    threshold=dict(
        _delete_=True,
        type='SearchedThreshold',
        high=0.45,
        low=0.45,
        rows=200,
        size=448,
        components=2,
        start='empty',
        gather=True,
        between_means=True,
    ),
    aux_threshold=dict(
        _delete_=True,
        type='SearchedThreshold',
        high=0.45,
        low=0.45,
        rows=200,
        size=448,
        components=2,
        start='empty',
        gather=True,
        between_means=True,
    ),
    aux_scales='sum',
    reliability=dict(type='ReliabilityWeights', scale=0.9, power=1.0),
    loss_csc=dict(type='SeparationLoss', temperature=0.1, epsilon=1.0, loss_weight=0.1),
)
