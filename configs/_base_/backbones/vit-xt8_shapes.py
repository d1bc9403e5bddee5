# What configs on generated data start from: small, with a convolutional stem, trained by configs/pretrain_shapes.py, which has
# to run first; MMWSSS_SHAPES_WEIGHTS names another checkpoint. They put it into the backbone of their method.
pretrained_backbone = dict(
    arch='vit-xt',
    img_size=144,
    patch_size=8,
    stem='conv',
    layer_scale_init_value=1e-3,
    norm_eval=True,
    init_cfg=dict(type='Pretrained', checkpoint='{{$MMWSSS_SHAPES_WEIGHTS:work_dirs/pretrain_shapes/iter_500.pth}}'),
)
