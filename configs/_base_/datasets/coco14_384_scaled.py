# COCO 2014 for single-stage methods: one view, random scales and crops, as VOC in voc12aug_384_scaled.py.
_base_ = ['./voc12aug_384_scaled.py', './coco14.py']
data_root = _base_.coco_train.data_root
train_dataloader = dict(dataset=_base_.coco_train)
val_dataloader = dict(dataset=_base_.coco_val)
test_dataloader = val_dataloader
