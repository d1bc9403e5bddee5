"""A tiny ViT-PCM with weights and images in files, for tests of inference."""

from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.registry import init_default_scope
from tiny_configs import CONFIGS, tiny_config, write_data
from torch import nn

from mmwsss.registry import MODELS

NAMES = ['val_00000', 'val_00001', 'train_00000']


def write_model(folder: Path) -> SimpleNamespace:
    """Config, path of the weights, folder of the images and paths of three of them, all below ``folder``."""
    init_default_scope('mmwsss')
    data_root = write_data(folder, 'ShapesDataset')
    cfg = tiny_config(CONFIGS / 'vitpcm_shapes.py', data_root, folder / 'work')
    torch.manual_seed(1)
    model = MODELS.build(cfg.model).eval()
    tell_patches_apart(model)
    torch.save({'state_dict': model.state_dict()}, folder / 'weights.pth')
    images = data_root / 'JPEGImages'
    return SimpleNamespace(
        cfg=cfg,
        weights=folder / 'weights.pth',
        folder=images,
        paths=[str(images / f'{name}.jpg') for name in NAMES],
    )


@torch.no_grad()
def tell_patches_apart(model: nn.Module) -> None:
    """Let the classifier look at what differs between patches; by itself a fresh one gives all of them one class."""
    features = model.extract_feat(torch.randn(4, 3, 48, 48)).permute(0, 2, 3, 1).flatten(0, 2)
    common = torch.nn.functional.normalize(features.mean(dim=0), dim=0)
    weight = model.head.classifier.weight
    weight -= weight @ common[:, None] * common
    weight *= 3 / (features @ weight.T).std()
