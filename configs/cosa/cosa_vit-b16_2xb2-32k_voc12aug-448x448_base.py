# Both classifiers alone: the warm-up never ends, which is what weights of 0 for the other losses do.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
model = dict(warmup='skip', warmup_iters=32000)
