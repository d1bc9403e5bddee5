# The three techniques of the paper on top of the released code, whose other behaviour stays.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
threshold = dict(
    _delete_=True,  # another class
    type='SearchedThreshold',
    high=0.45,
    low=0.45,
    rows=200,
    size=448,
    components=2,
    start='empty',
    gather=True,
    between_means=True,
)
model = dict(
    threshold=threshold,
    aux_threshold=threshold,
    reliability=dict(type='ReliabilityWeights'),
    loss_csc=dict(type='SeparationLoss'),
)
