# The searched thresholds of the released code (usegmm): three components, noise in the buffer, one for each process.
# _delete_: another class.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
threshold = dict(_delete_=True, type='SearchedThreshold', high=0.7, low=0.25, rows=200, size=448)
model = dict(threshold=threshold, aux_threshold=threshold)
