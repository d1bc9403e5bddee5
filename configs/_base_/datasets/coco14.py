# COCO 2014, 81 classes with the background, in place of VOC in the datasets of a config; masks as WeakCOCODataset describes
# them. Without ann_file all 82783 training images are read, 702 of them without a label; schedules count the 82081 others, which a
# list of their ids as ann_file leaves alone.
coco_train = dict(
    type='WeakCOCODataset',
    data_root='data/coco',
    ann_file='',
    data_prefix=dict(img_path='train2014', seg_map_path='SegmentationClass/train2014'),
)
coco_val = dict(
    type='WeakCOCODataset',
    data_root='data/coco',
    ann_file='',
    data_prefix=dict(img_path='val2014', seg_map_path='SegmentationClass/val2014'),
)
