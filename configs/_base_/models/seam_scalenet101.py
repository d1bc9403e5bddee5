# SEAM on ScaleNet-101 as in PMM's release: no dropout, the classifier starts from Xavier's rule.
_base_ = './seam_resnet38d.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ScaleNet',
        structure='scalenet101',
        init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_SCALENET101_WEIGHTS:pretrained/scalenet101.pth}}'),
    ),
    head=dict(
        in_channels=(512, 1024, 2048),
        dropout=0.0,
        init_cfg=dict(type='Xavier', distribution='uniform', override=dict(name='fc8')),
    ),
)
