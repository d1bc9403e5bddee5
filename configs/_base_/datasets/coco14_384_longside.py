# COCO 2014 for ACR: a random length of the longer side, tests on the squashed image, as VOC in voc12aug_384_longside.py.
_base_ = ['./voc12aug_384_longside.py', './coco14.py']
data_root = _base_.coco_train.data_root
train_dataloader = dict(dataset=_base_.coco_train)
val_dataloader = dict(dataset=_base_.coco_val)
test_dataloader = val_dataloader
