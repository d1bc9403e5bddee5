# SEAM on ScaleNet-50.
_base_ = './seam_scalenet101.py'
model = dict(
    backbone=dict(
        structure='scalenet50',
        init_cfg=dict(checkpoint='{{$MMWSSS_SCALENET50_WEIGHTS:pretrained/scalenet50.pth}}'),
    )
)
