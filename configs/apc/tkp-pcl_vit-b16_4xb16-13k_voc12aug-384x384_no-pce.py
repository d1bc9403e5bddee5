# TKP-PCL without the patch contrast.
_base_ = './tkp-pcl_vit-b16_4xb16-13k_voc12aug-384x384.py'
model = dict(loss_pce=None)
