# COCO 2014 in the views of voc12aug_448_multiscale.py.
_base_ = ['./voc12aug_448_multiscale.py', './coco14.py']
data_root = _base_.coco_train.data_root
train_dataloader = dict(
    batch_size=1,  # x 8 GPUs = 8
    dataset=_base_.coco_train,
)
val_dataloader = dict(dataset=_base_.coco_val)
test_dataloader = val_dataloader
