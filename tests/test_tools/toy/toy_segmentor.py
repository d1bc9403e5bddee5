"""A network of a few parameters and data of a few pixels, to run the entry points in seconds."""

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.data import Dataset

from mmwsss.registry import DATASETS, MODELS


@DATASETS.register_module()
class ToyDataset(Dataset):
    metainfo = {'classes': ('background', 'left', 'right')}

    def __len__(self):
        return 5

    def __getitem__(self, index):
        image = torch.zeros(3, 8, 8)
        label = torch.zeros(1, 8, 8, dtype=torch.int64)
        side = index % 2
        image[side, :, 4 * side : 4 * side + 4] = 1
        label[0, :, 4 * side : 4 * side + 4] = side + 1
        sample = SegDataSample(
            gt_sem_seg=PixelData(data=label),
            metainfo={'img_path': f'image_{index}.jpg', 'ori_shape': (8, 8), 'img_shape': (8, 8)},
        )
        sample.image_labels = torch.eye(2)[side]
        return {'inputs': image, 'data_samples': sample}


@MODELS.register_module()
class ToySegmentor(BaseModel):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, inputs, data_samples, mode='tensor'):
        maps = self.layer(torch.stack(list(inputs))).sigmoid()
        scores = maps.amax((2, 3))
        if mode == 'loss':
            labels = torch.stack([sample.image_labels for sample in data_samples]).to(scores)
            return {'loss_cls': nn.functional.binary_cross_entropy(scores, labels)}
        for sample, sample_maps, sample_scores in zip(data_samples, maps, scores):
            best, index = sample_maps.max(0, keepdim=True)
            sample.pred_sem_seg = PixelData(data=torch.where(best > 0.5, index + 1, 0))
            sample.localization_maps = PixelData(data=sample_maps)
            sample.image_scores = sample_scores
            sample.set_metainfo({'used_image_labels': False, 'bg_setting': 0.5})
        return data_samples
