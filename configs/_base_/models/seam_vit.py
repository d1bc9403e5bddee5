# SEAM on a vision transformer, which is not in PMM: the patches of a middle block and of the last one take the place of the taps
# of the convolutional networks (no gradient flows into them there), those of the last block are classified. The second view is
# half as large, as 0.3 would leave five patches a side on the small benchmarks. The equivariance of the maps (loss_er) waits
# until the classifier has learnt something: without SEAM's own weights to start from all maps became negative.
_base_ = './seam_resnet38d.py'
model = dict(
    backbone=dict(_delete_=True, type='TokenViT', patch_size=16, pos_interp='bilinear', out_indices=(7, 11)),
    head=dict(in_channels=192, dropout=0.0),
    in_index=(0, 1, 1),
    warmup_iters=400,
    second_scale=0.5,
    test_cfg=dict(views=dict(scales=(0.5, 1.0, 1.5))),
)
