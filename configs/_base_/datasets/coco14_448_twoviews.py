# COCO 2014 for CoSA: a weak and a strong view of one random crop, as VOC in voc12aug_448_twoviews.py, at twice its batch.
_base_ = ['./voc12aug_448_twoviews.py', './coco14.py']
data_root = _base_.coco_train.data_root
train_dataloader = dict(
    batch_size=4,  # x 2 GPUs = 8
    dataset=_base_.coco_train,
)
val_dataloader = dict(dataset=_base_.coco_val)
test_dataloader = val_dataloader
