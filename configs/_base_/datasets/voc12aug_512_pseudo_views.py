# Exported pseudo masks of VOC as in voc12aug_512_pseudo.py, for a model that makes its views from the whole image.
_base_ = './voc12aug_512_pseudo.py'
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
train_dataloader = dict(batch_size=2)  # x 8 GPUs = 16
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
