# The segmentation network of fullysup/ on pseudo masks in the place of the true ones. MMWSSS_PSEUDO_MASKS names the folder
# masks/ that tools/generate_pseudo_labels.py wrote; validation and test compare with true masks.
_base_ = '../fullysup/fcn_deit-t16_1xb16-2k_voc12mini-224x224.py'
import os  # noqa: E402, not before _base_, or mmengine takes this for a file of its other config style

# Absolute, as data_root is put before relative folders.
pseudo_masks = os.path.abspath('{{$MMWSSS_PSEUDO_MASKS:work_dirs/pseudo_masks/masks}}')
train_dataloader = dict(dataset=dict(data_prefix=dict(seg_map_path=pseudo_masks), label_source=None))
