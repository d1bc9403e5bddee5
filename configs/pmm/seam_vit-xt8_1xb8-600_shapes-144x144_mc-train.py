# Trained on crops that are labelled by stored maps of the config without mc-train; maps of crops.
_base_ = ['./seam_vit-xt8_1xb8-600_shapes-144x144_mc-test.py', '../_base_/datasets/shapes_144_multicrop.py']
train_dataloader = dict(dataset=dict(pipeline=_base_.multi_crop_pipeline))
