# As released: momentum of 5e-4, masks of images in the order blue, green, red, and the segmentation checkpoint with the best score on
# the validation set, which is supervision by pixels.
_base_ = './pmm_voc.py'
maps = '../pmm/seam_resnet38d_8xb3-3520_voc12aug-448x448_released.py'
crops = '../pmm/seam_scalenet101_8xb2-13k_voc12aug-448x448_mc-train_released.py'
first = '../pmm/pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512_released.py'
second = '../pmm/pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512_ce_released.py'
configs = [maps, maps, crops, crops, first, first, second, second]
stages = [dict(stage, config=config) for stage, config in zip(_base_.stages, configs)]
stages[3]['arguments'] = ['--split', 'train', '--steps', 'pmm_released']
for number, name in [(5, 'segmentation'), (7, 'second')]:
    stages[number]['checkpoint'] = f'{{{name}}}/best'
