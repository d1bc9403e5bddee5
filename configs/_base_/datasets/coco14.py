# COCO 2014, 81 classes with the background, in place of VOC in the datasets of a config. Lists, labels of the annotations and masks
# are those of tools/dataset_converters/coco2014.py: the 82081 and 40137 images with an object, which the schedules count.
coco_train = dict(
    type='WeakCOCODataset',
    data_root='data/coco',
    ann_file='ImageSets/train2014.txt',
    label_source=dict(type='FileLabels', path='ImageLabels/train2014.json'),
    data_prefix=dict(img_path='train2014', seg_map_path='SegmentationClass/train2014'),
)
coco_val = dict(
    type='WeakCOCODataset',
    data_root='data/coco',
    ann_file='ImageSets/val2014.txt',
    label_source=dict(type='FileLabels', path='ImageLabels/val2014.json'),
    data_prefix=dict(img_path='val2014', seg_map_path='SegmentationClass/val2014'),
)
