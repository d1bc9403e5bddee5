# Exported pseudo masks of the generated data. MMWSSS_PSEUDO_MASKS names the folder masks/ that tools/generate_pseudo_labels.py
# wrote; validation and test compare with true masks.
_base_ = './shapes_144_oneview.py'
import os  # noqa: E402, not before _base_, or mmengine takes this for a file of its other config style

# Absolute, as data_root is put before relative folders.
pseudo_masks = os.path.abspath('{{$MMWSSS_PSEUDO_MASKS:work_dirs/pseudo_masks/masks}}')
train_pipeline = [_base_.train_pipeline[0], dict(type='LoadAnnotations'), *_base_.train_pipeline[1:]]
train_dataloader = dict(
    dataset=dict(data_prefix=dict(seg_map_path=pseudo_masks), label_source=None, pipeline=train_pipeline)
)
