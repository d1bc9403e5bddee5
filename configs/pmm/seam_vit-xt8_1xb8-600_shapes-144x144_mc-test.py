# Trained on images of several scales, maps of crops (test time: the checkpoint is that of the config without mc-test).
_base_ = './seam_vit-xt8_1xb8-600_shapes-144x144.py'
model = dict(
    test_cfg=dict(views=dict(_delete_=True, type='multi_crop', scales=(1.0, 1.25, 1.5, 2.0), crop_size=144, stride=96))
)
