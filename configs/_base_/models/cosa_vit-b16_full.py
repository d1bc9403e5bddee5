# CoSA with the three techniques of the paper: reliability weights, contrastive separation and searched thresholds, here with
# three components and an ignored band. One threshold (two components), as the paper seems to have it, and a weight of 0.1 for
# the separation scored lower on voc12_mini; see docs/cosa.md.
_base_ = './cosa_vit-b16.py'
model = dict(
    threshold=dict(
        _delete_=True,
        type='SearchedThreshold',
        high=0.7,
        low=0.25,
        rows=200,
        size=448,
        components=3,
        start='empty',
        gather=True,
        between_means=True,
    ),
    aux_threshold=dict(
        _delete_=True,
        type='SearchedThreshold',
        high=0.7,
        low=0.25,
        rows=200,
        size=448,
        components=3,
        start='empty',
        gather=True,
        between_means=True,
    ),
    aux_scales='sum',
    reliability=dict(type='ReliabilityWeights', scale=0.8, power=0.5),
    loss_csc=dict(type='SeparationLoss', temperature=0.1, epsilon=1.0, loss_weight=0.01),
)
