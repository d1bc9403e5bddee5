# Maps of crops as in PMM's release: ten scales, crops of 448 pixels every 300, each with its mirror image.
crops = dict(
    _delete_=True,
    type='multi_crop',
    scales=(0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0),
    crop_size=448,
    stride=300,
    flip=True,
)
