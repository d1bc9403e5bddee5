# The reliability weights of the paper on top of the released code.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
model = dict(reliability=dict(type='ReliabilityWeights'))
