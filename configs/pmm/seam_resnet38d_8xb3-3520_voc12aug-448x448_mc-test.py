# Trained on images of several scales, maps of crops (test time: the checkpoint is that of the config without mc-test).
_base_ = ['./seam_resnet38d_8xb3-3520_voc12aug-448x448.py', '../_base_/models/crops_448.py']
model = dict(test_cfg=dict(views=_base_.crops))
