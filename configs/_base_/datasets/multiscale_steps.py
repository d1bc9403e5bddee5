# Steps of the views of SEAM, shared by the files *_multiscale.py, which add the sizes to resize and crop.
multiscale_steps = dict(
    resize=dict(type='RandomResize', keep_ratio=True, resize_type='Resize', backend='pillow', interpolation='bicubic'),
    jitter=[
        dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
        dict(type='mmpretrain.torchvision/ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
        dict(type='mmpretrain.PILToNumpy', to_bgr=True),
    ],
    # The mean colour in whole numbers, almost 0 once normalised.
    crop=dict(type='RandomPadCrop', pad_val=(104, 116, 124)),
)
