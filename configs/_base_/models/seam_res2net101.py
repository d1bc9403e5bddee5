# SEAM on Res2Net-101 (v1b, 26w, 4s) with output stride 8. PMM's paper has such a row, its release has no such network: strides,
# dilations, frozen stages and the head are those of ScaleNet there, which is our choice. MMWSSS_RES2NET101_WEIGHTS names
# weights that tools/model_converters/pmm_seg_to_mmwsss.py converted.
_base_ = './seam_scalenet101.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.Res2Net',
        depth=101,
        scales=4,
        base_width=26,
        deep_stem=True,
        avg_down=True,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 1, 1),
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint='{{$MMWSSS_RES2NET101_WEIGHTS:pretrained/res2net101_v1b_26w_4s_mmwsss.pth}}'
        ),
    )
)
