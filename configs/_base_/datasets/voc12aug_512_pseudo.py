# Exported pseudo masks of VOC's trainaug list for ordinary networks of mmseg. MMWSSS_PSEUDO_MASKS names the folder masks/ that
# tools/generate_pseudo_labels.py wrote; validation and test compare with true masks.
_base_ = './voc12aug_384.py'
import os  # noqa: E402, not before _base_, or mmengine takes this for a file of its other config style

# Absolute, as data_root is put before relative folders.
pseudo_masks = os.path.abspath('{{$MMWSSS_PSEUDO_MASKS:work_dirs/pseudo_masks/masks}}')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),  # after the resize: scores are taken at the size of the image
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,  # x 4 GPUs = 16
    num_workers=4,
    dataset=dict(data_prefix=dict(seg_map_path=pseudo_masks), label_source=None, pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
