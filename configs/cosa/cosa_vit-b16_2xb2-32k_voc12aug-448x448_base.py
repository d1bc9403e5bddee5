# Both classifiers alone: the warm-up never ends, which is what weights of 0 for the other losses do.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
model = dict(warmup='skip', warmup_iters=32000)
# The segmentation is never trained, so only the maps say which checkpoint is best.
val_cfg = dict(select='maps_mIoU+tags')
default_hooks = dict(checkpoint=dict(save_best='best_stream/maps_mIoU+tags', rule='greater'))
