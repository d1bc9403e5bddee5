"""The configs of PMM's second stage: every row builds, fits together and differs by what its name says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_configs import CONFIGS, short_id

from mmwsss.engine.hooks import CyclicPseudoMaskHook
from mmwsss.registry import DATASETS, HOOKS, MODELS

PSPNET = sorted((CONFIGS / 'pmm').glob('pspnet_*.py'))
FCN = sorted((CONFIGS / 'pmm').glob('fcn_*.py'))
WIDTHS = dict(resnet38d=(1024, 4096), res2net101=(1024, 2048), scalenet101=(1024, 2048))
VOC, COCO = '8xb2-20k_voc12aug-pseudo_512x512', '16xb2-40k_coco14-pseudo'
ROWS = {
    'ce': dict(form='none'),
    'puf-pow': dict(form='pow'),
    'puf-ignore': dict(form='ignore'),
    'beta03': dict(beta=0.3, k=0.3),
    'beta08': dict(beta=0.8, k=0.8),
    'cp': dict(form='none'),
    'puf-cp': {},
    'released': {},
    'ce_released': dict(form='none'),
}


@cache
def network(backbone: str, num_classes: int) -> torch.nn.Module:
    """The network of a config without memory for its weights where that is possible."""
    path = next(p for p in PSPNET if backbone in p.stem and ('coco' in p.stem) == (num_classes > 21))
    model = Config.fromfile(path).model
    model.backbone.init_cfg = None
    if backbone == 'res2net101':  # cannot be built without memory, so with few blocks
        model.backbone.depth = 50
        return MODELS.build(model)
    with torch.device('meta'):
        return MODELS.build(model)


def row_of(path: Path) -> str:
    return '_'.join(path.stem.split('_')[5:])


def test_all_rows_are_there() -> None:
    for backbone in WIDTHS:
        for row in ('', *(f'_{row}' for row in ROWS)):
            assert CONFIGS / 'pmm' / f'pspnet_{backbone}_{VOC}{row}.py' in PSPNET
        assert sum(path.stem.startswith(f'pspnet_{backbone}_{COCO}') for path in PSPNET) == 3
    for stem in ('fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224', 'fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144'):
        for row in ('', '_ce', '_cp', '_puf-cp', '_cp-labels', '_puf-cp-labels'):
            assert CONFIGS / 'pmm' / f'{stem}{row}.py' in FCN


@pytest.mark.parametrize('path', PSPNET, ids=short_id)
def test_pspnet(path: Path) -> None:
    cfg, row, backbone = Config.fromfile(path), row_of(path), path.stem.split('_')[1]
    is_voc = VOC in path.stem
    assert is_voc or COCO in path.stem
    classes = len(DATASETS.get(cfg.train_dataloader.dataset.type).METAINFO['classes'])
    assert classes == (21 if is_voc else 81)
    heads = cfg.model.auxiliary_head, cfg.model.decode_head
    assert [head.in_channels for head in heads] == [*WIDTHS[backbone]]
    expected = dict(form='clamp', beta=0.5, k=0.5) if is_voc else dict(form='clamp', beta=0.8, k=0.8)
    expected |= ROWS[row] if row else {}
    for head, weight in zip(heads, (0.4, 1.0)):
        assert head.num_classes == classes
        loss = {**head.loss_decode}
        assert loss.pop('type') == 'UnderFittingCrossEntropyLoss'
        assert loss.pop('loss_weight', 1.0) == weight
        assert loss == expected
    (floor,) = cfg.param_scheduler
    length = 20000 if is_voc else 40000
    assert (floor.eta_min, floor.power, floor.end) == (1e-4 if is_voc else 5e-5, 0.9, length)
    assert cfg.train_cfg.max_iters == length
    assert cfg.optim_wrapper.optimizer.to_dict() == dict(
        type='SGD', lr=0.005 if is_voc else 0.01, momentum=0.9, weight_decay=5e-4
    )
    views = cfg.model.test_cfg.views
    assert len(views.scales) * 2 == 12
    assert views.flip
    assert not any(step.type == 'Resize' for step in cfg.test_dataloader.dataset.pipeline)
    (crop,) = [step.crop_size for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop']
    assert crop == cfg.model.data_preprocessor.size == tuple(int(side) for side in path.stem.split('_')[4].split('x'))
    released = row.endswith('released')
    assert ('save_best' in cfg.default_hooks.checkpoint) == released
    assert cfg.train_cfg.val_interval == (length // 10 if released else length)
    cyclic = [HOOKS.build(hook) for hook in cfg.custom_hooks if hook.type == 'CyclicPseudoMaskHook']
    assert [hook.at for hook in cyclic] == ([[length // 2]] if row in ('cp', 'puf-cp') else [])


@pytest.mark.parametrize('backbone', WIDTHS)
def test_networks_have_the_widths_of_their_backbones(backbone: str) -> None:
    model = network(backbone, 21)
    blocks = dict(model.backbone.named_modules())
    widths = [blocks['b6'].bn_branch2a.num_features, blocks['bn7'].num_features] if 'b6' in blocks else None
    if widths is None:
        widths = [blocks[f'layer{i}'][0].downsample[-1].num_features for i in (3, 4)]
    assert [*widths] == [*WIDTHS[backbone]]
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    model.train()
    assert all(norm.training and norm.weight.requires_grad for norm in norms), 'nothing is frozen'


@pytest.mark.parametrize('path', FCN, ids=short_id)
def test_fcn(path: Path) -> None:
    cfg, row = Config.fromfile(path), row_of(path)
    assert cfg.model.type == 'MultiViewEncoderDecoder'
    expected = 'none' if row in ('ce', 'cp', 'cp-labels') else 'clamp'
    assert cfg.model.decode_head.loss_decode.form == expected
    assert cfg.train_dataloader.dataset.label_source is None
    assert Path(cfg.train_dataloader.dataset.data_prefix.seg_map_path).is_absolute()
    cyclic = [hook for hook in cfg.custom_hooks if hook.type == 'CyclicPseudoMaskHook']
    assert len(cyclic) == ('cp' in row)
    for hook in cyclic:
        assert hook.at == [cfg.train_cfg.max_iters // 2]
        assert hook.test_cfg.get('use_image_labels', False) == row.endswith('labels')
        assert isinstance(HOOKS.build(hook), CyclicPseudoMaskHook)
