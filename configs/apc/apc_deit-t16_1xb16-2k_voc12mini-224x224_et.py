# With ViT-PCM's equivariance loss and its second view. _delete_: the canonical config has None there.
_base_ = './apc_deit-t16_1xb16-2k_voc12mini-224x224.py'
model = dict(loss_et=dict(_delete_=True, type='EquivarianceLoss', use_labels=True, eps=1e-7, loss_weight=1.0))
views = dict(second_view=True, view_2_size=112, crop_size=80, crop_prob=0.3, crop_grid=16)
train_pipeline = [*_base_.train_pipeline[:2], dict(_base_.train_pipeline[2], **views), _base_.train_pipeline[3]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
