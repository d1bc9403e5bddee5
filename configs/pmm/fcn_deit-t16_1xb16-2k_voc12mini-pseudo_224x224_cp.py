# Plain cross entropy; half-way the masks are renewed by the network, several views and a dense CRF. The true masks of the training
# images are read for scores in the log alone.
_base_ = './fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224_ce.py'
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='CyclicPseudoMaskHook',
        at=[1000],
        test_cfg=dict(views=dict(scales=(0.75, 1.0, 1.25), flip=True)),
        steps=[dict(type='Refine', refiner=dict(type='DenseCRF')), dict(type='Decide')],
        dataset=dict(data_prefix=dict(seg_map_path='SegmentationClass'), label_source='mask'),
    ),
]
