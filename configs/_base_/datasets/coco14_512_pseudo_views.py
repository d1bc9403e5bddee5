# Exported pseudo masks of COCO 2014's training images, read as those of VOC in voc12aug_512_pseudo_views.py.
# MMWSSS_PSEUDO_MASKS names their folder.
_base_ = ['./voc12aug_512_pseudo_views.py', './coco14.py']
data_root = _base_.coco_train.data_root
train_dataloader = dict(
    dataset=dict(
        _base_.coco_train,
        label_source=None,
        data_prefix=dict(_base_.coco_train.data_prefix, seg_map_path=_base_.pseudo_masks),
    )
)
val_dataloader = dict(dataset=_base_.coco_val)
test_dataloader = val_dataloader
