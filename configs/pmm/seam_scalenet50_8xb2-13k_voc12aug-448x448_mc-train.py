# Trained on crops that are labelled by stored maps, 20 epochs; maps of crops.
_base_ = ['./seam_scalenet50_8xb3-3520_voc12aug-448x448_mc-test.py', '../_base_/datasets/voc12aug_448_multicrop.py']
train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = 16
    dataset=dict(pipeline=_base_.multi_crop_pipeline),
)
param_scheduler = [dict(type='WarmupPolyLR', max_iters=13220, warmup_iters=0, power=0.9)]
train_cfg = dict(max_iters=13220, val_interval=13220)
