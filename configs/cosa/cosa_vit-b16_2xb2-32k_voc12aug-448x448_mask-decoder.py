# The Segmenter decoder that the released code has as an option; its dropout stays active in the assignment network.
_base_ = './cosa_vit-b16_2xb2-32k_voc12aug-448x448_released.py'
model = dict(
    decode_head=dict(
        _delete_=True,  # another head: none of the old arguments applies
        type='SegmenterMaskTransformerHead',
        in_channels=768,
        channels=768,
        embed_dims=768,
        num_layers=2,
        num_heads=12,
        drop_rate=0.1,
        attn_drop_rate=0.1,
        drop_path_rate=0.0,
        dropout_ratio=0.0,
        num_classes=21,
    )
)
