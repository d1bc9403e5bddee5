# Trained on images of several scales, maps of crops (test time: the checkpoint is that of the config without mc-test).
_base_ = './seam_deit-t16_1xb8-1300_voc12mini-224x224.py'
model = dict(
    test_cfg=dict(
        views=dict(_delete_=True, type='multi_crop', scales=(0.75, 1.0, 1.25, 1.5, 2.0), crop_size=224, stride=150)
    )
)
