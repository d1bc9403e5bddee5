# The two best patches of every class in TKP-PCL.
_base_ = './tkp-pcl_vit-b16_4xb16-13k_voc12aug-384x384.py'
model = dict(head=dict(pooling=dict(k=2)))
