# PMM on COCO 2014: one network of maps, trained on whole images, and one segmentation network with pretended under-fitting.
# With --gpus the trainings take the numbers of GPUs that their configs are written for, all of one machine; with other numbers
# keep the product with train_dataloader.batch_size.
maps = '../pmm/seam_scalenet101_8xb1-205k_coco14-448x448.py'
first = '../pmm/pspnet_scalenet101_16xb2-40k_coco14-pseudo_448x448.py'
stages = [
    dict(name='maps', kind='train', config=maps, gpus=8),
    dict(
        name='masks',
        kind='export',
        config=maps,
        checkpoint='{maps}',
        arguments=['--split', 'train', '--steps', 'cvs_ppmg'],
    ),
    dict(name='segmentation', kind='train', config=first, gpus=16, env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks')),
    dict(
        name='scores',
        kind='test',
        config=first,
        checkpoint='{segmentation}',
        env=dict(MMWSSS_PSEUDO_MASKS='{masks}/masks'),
    ),
]
