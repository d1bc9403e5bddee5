# Trained on crops that are labelled by stored maps of the config without mc-train; maps of crops.
_base_ = ['./seam_deit-t16_1xb8-1300_voc12mini-224x224_mc-test.py', '../_base_/datasets/voc12mini_224_multicrop.py']
train_dataloader = dict(dataset=dict(pipeline=_base_.multi_crop_pipeline))
