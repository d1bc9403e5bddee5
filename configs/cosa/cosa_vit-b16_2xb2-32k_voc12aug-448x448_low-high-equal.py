# No ignored band. The value is ours: the released code has none for this case.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
threshold = dict(high=0.45, low=0.45)
model = dict(threshold=threshold, aux_threshold=threshold)
