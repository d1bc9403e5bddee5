# What configs on the small VOC benchmark start from: DeiT-Tiny, whose weights are in the folder that MMWSSS_BENCH_DIR names.
# They put it into the backbone of their method.
pretrained_backbone = dict(
    arch='vit-t',
    img_size=224,
    init_cfg=dict(
        type='Pretrained', checkpoint='{{$MMWSSS_BENCH_DIR:../shared}}/weights/deit_tiny_patch16_224_in1k_fp16.pth'
    ),
)
