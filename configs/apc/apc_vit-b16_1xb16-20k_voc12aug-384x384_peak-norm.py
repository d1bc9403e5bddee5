# The map of every present class has its peak at 1 before the pseudo mask of the decoder is decided.
_base_ = './apc_vit-b16_1xb16-20k_voc12aug-384x384.py'
model = dict(
    online_labeler=dict(
        steps=[
            dict(type='MaskAbsent'),
            dict(type='PeakNormalize'),
            dict(type='Distribution'),
            dict(type='Resize', rule='half_pixel'),
            dict(type='Refine', refiner=dict(type='PAR')),
            dict(type='Decide', bg_setting=1.0),
            dict(type='IgnoreOutsideBox'),
        ]
    )
)
