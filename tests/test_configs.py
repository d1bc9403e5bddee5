"""Every shipped config loads, fits together, trains and predicts, at a tiny size."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from pmm_cases import AFFINITY_TRAINED, CYCLIC_TRAINED, MULTI_CROP_TRAINED, PMM, SEAM_TRAINED
from tiny_configs import (
    BATCH,
    CANONICAL,
    CONFIGS,
    HEADS,
    LOADERS,
    SHORT,
    classes_of,
    load_config,
    short_id,
    shrink_model,
    tiny_config,
    widths,
    write_data,
)

from mmwsss.models.backbones.token_vit import ARCHITECTURES
from mmwsss.models.utils.gradient_maps import FORMS
from mmwsss.registry import DATASETS, HOOKS, MODELS


def alias_target(path: Path) -> Path:
    """The canonical config of a short name, which holds nothing but ``_base_``."""
    (statement,) = ast.parse(path.read_text()).body
    (name,) = statement.targets
    assert name.id == '_base_'
    return (path.parent / ast.literal_eval(statement.value)).resolve()


# Losses of a method from the first iteration, and those that start after the warm-up.
LOSSES = dict(
    CoSA=(('cls', 'cls_aux'), ('c2s', 's2c', 'energy', 'csc', 'pce')),
    APC=(('mce', 'reg', 'et'), ('pce', 'seg')),
    ViTPCM=(('mce', 'reg', 'et'), ()),
    ACR=(('cls',), ()),
)


def expected_losses(cfg: Config) -> set[str]:
    """Names of the losses of a configured model in ``LOSSES``, after the warm-up where that ends in this run."""
    first, later = LOSSES[cfg.model.type]
    names = first if cfg.model.get('warmup_iters', 0) > 0 else (*first, *later)
    found = {f'loss_{name}' for name in names if name == 'cls_aux' or cfg.model.get(f'loss_{name}') is not None}
    if (pair := cfg.model.get('consistency')) is not None:
        found |= {'loss_cls_moved'} if cfg.model.type == 'ACR' else set()
        found |= {f'loss_{name[:3]}' for name in ('activation', 'affinity') if pair.get(f'loss_{name}') is not None}
    return found


# Configs of PMM that are trained: for each kind of model, data and hook one, here or by tests of its own.
PMM_RUNNER = {
    PMM / 'pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512_puf-cp.py',
    PMM / 'fcn_deit-t16_1xb16-2k_voc12mini-pseudo_224x224_puf-cp-labels.py',
}
PMM_STEPS = {
    PMM / 'pspnet_scalenet101_16xb2-40k_coco14-pseudo_448x448.py',
    PMM / 'seam_resnet38d_8xb3-3520_voc12aug-448x448.py',
    PMM / 'seam_scalenet101_8xb1-205k_coco14-448x448.py',
}
ELSEWHERE = {*SEAM_TRAINED, *MULTI_CROP_TRAINED, *AFFINITY_TRAINED, CYCLIC_TRAINED}
# They are of the same parts as trained ones, which a test compares.
BUILT = [path for path in CANONICAL if path.parent == PMM and path not in PMM_RUNNER | PMM_STEPS]
R101 = CONFIGS / 'stage2' / 'deeplabv2_r101-d8_4xb4-20k_voc12aug-pseudo_512x512.py'
BUILT.append(R101.with_stem(R101.stem.replace('r101', 'resnet38d')))
# The variants differ from these in few settings; one step and one prediction tell whether those hold together.
THROUGH_RUNNER = sorted(
    {alias_target(path) for path in SHORT}
    | {path for path in CANONICAL if path.stem.endswith('_released') and path.parent != PMM}
    | {path for path in CANONICAL if path.stem.startswith('tkp-pcl') and path.stem.endswith('384x384')}
    | PMM_RUNNER
)
# Rows of ACR that differ at test time only, by form of the maps and first block; their test compares the settings.
ACR_VOC = CONFIGS / 'acr' / 'acr_vit-b16-hybrid_4xb1-26k_voc12aug-384x384.py'
GRADIENT_MAPS = {
    ACR_VOC.with_stem(f'{ACR_VOC.stem}_{form.replace("_", "-")}-from{start}'): dict(form=form, start_layer=start)
    for form in FORMS
    for start in (0, 6, 9, 10, 11)
    if (form, start) != ('grad', 10)  # the canonical config
}
OTHERS = [path for path in CANONICAL if path not in {*THROUGH_RUNNER, *GRADIENT_MAPS, *BUILT}]


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module', autouse=True)
def own_data(data_dir: Path) -> Iterator[None]:
    """Data for the configs that read their classes from them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMWSSS_DATA_ROOT', str(write_data(data_dir, 'WeakSegDataset')))
        yield


@pytest.fixture
def tiny(data_dir: Path, tmp_path: Path):
    def make(path: Path) -> Config:
        torch.manual_seed(0)
        data_root = write_data(data_dir, load_config(path).train_dataloader.dataset.type)
        return tiny_config(path, data_root, tmp_path)

    return make


def test_there_are_configs() -> None:
    assert len(SHORT) >= 5
    assert len(CANONICAL) >= 20
    assert len(OTHERS) >= 10


@pytest.mark.parametrize('path', SHORT, ids=short_id)
def test_short_names_are_canonical_configs(path: Path) -> None:
    target = alias_target(path)
    assert target in CANONICAL
    assert load_config(path).to_dict() == load_config(target).to_dict()


@pytest.mark.parametrize('path', CANONICAL, ids=short_id)
def test_names_and_widths(path: Path) -> None:
    cfg = load_config(path)
    gpus, per_gpu, iterations = re.search(r'_(\d+)xb(\d+)-(\d+k?)_', path.stem).groups()
    assert int(gpus) >= 1
    assert cfg.train_dataloader.batch_size == int(per_gpu)
    max_iters = cfg.train_cfg.max_iters
    assert iterations in {str(max_iters), f'{max_iters // 1000}k'}
    for part, (expected, given) in widths(cfg).items():
        assert expected == given, part
    heads = [cfg.model[name] for name in HEADS if cfg.model.get(name) is not None]
    classes = {head.num_classes for head in heads if head.type != 'AffinityHead'}  # which is of no classes
    assert classes <= {len(classes_of(cfg))}
    assert classes or cfg.model.type == 'AffinityNetwork'
    blocks = cfg.model.backbone.get('out_indices', [])
    if cfg.model.backbone.type == 'TokenViT' and blocks:
        assert max(blocks) == ARCHITECTURES[cfg.model.backbone.arch]['num_layers'] - 1, 'the last block'
    assert cfg.default_scope == 'mmwsss'


GRID = [
    (data, pooling, contrast, decoder)
    for data in ('apc_vit-xt8_1xb16-600_shapes-144x144', 'apc_deit-t16_1xb16-2k_voc12mini-224x224')
    for pooling in ('max', 'top6', 'akp')
    for contrast in (False, True)
    for decoder in (False, True)
]


@pytest.mark.parametrize(('data', 'pooling', 'contrast', 'decoder'), GRID)
def test_the_grid_of_apc_is_what_its_names_say(data: str, pooling: str, contrast: bool, decoder: bool) -> None:
    row = '-'.join([pooling] + ['pce'] * contrast + ['dec'] * decoder)
    base = load_config(CONFIGS / 'apc' / f'{data}.py')
    cfg = base if row == 'akp-pce-dec' else load_config(CONFIGS / 'apc' / f'{data}_{row}.py')
    expected = base.copy()
    if pooling == 'max':
        expected.model.head.pooling = dict(type='GlobalMaxPooling')
    elif pooling == 'top6':
        expected.model.head.pooling = dict(type='TopKPooling', k=6)
    if not contrast:
        expected.model.loss_pce = None
    if not decoder:
        expected.model.update(decode_head=None, loss_seg=None, online_labeler=None)
    assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize('path', GRADIENT_MAPS, ids=short_id)
def test_the_gradient_maps_of_acr_are_what_their_names_say(path: Path) -> None:
    expected = load_config(ACR_VOC)
    blocks = ARCHITECTURES[expected.model.backbone.arch]['num_layers']
    assert expected.model.test_cfg.start_layer == 10 - blocks
    cfg = load_config(path)
    cfg.model.test_cfg.start_layer %= blocks
    expected.model.test_cfg.update(GRADIENT_MAPS[path])
    assert cfg.to_dict() == expected.to_dict()


def parts_of(cfg: Config) -> set[tuple]:
    """What the training of a config goes through, by type: model, data of each kind and hooks."""
    model = cfg.model
    heads = tuple(model[name].type for name in HEADS if model.get(name) is not None)
    views = (model.get('test_cfg') or {}).get('views')
    parts = {('model', model.type, heads, 'pseudo_labeler' in model)}
    parts |= {('views', model.type, views.get('type'))} if views is not None else set()
    parts |= {('hook', hook.type) for hook in cfg.get('custom_hooks', [])}
    for name in LOADERS:
        if (loader := cfg.get(name)) is not None:
            parts.add((name, loader.dataset.type, *(step.type for step in loader.dataset.pipeline)))
    return parts


@cache
def trained_parts() -> frozenset[tuple]:
    return frozenset().union(*(parts_of(load_config(path)) for path in PMM_RUNNER | PMM_STEPS | ELSEWHERE | {R101}))


@cache
def build_without_memory(backbone: str) -> None:
    with torch.device('meta'):
        MODELS.build(json.loads(backbone))


@pytest.mark.parametrize('path', BUILT, ids=short_id)
def test_builds_of_parts_that_are_trained(path: Path) -> None:
    cfg = load_config(path)
    assert parts_of(cfg) <= trained_parts()
    cfg.model.backbone.init_cfg = None
    if cfg.model.backbone.type in ('ResNet38d', 'ScaleNet'):  # others can be made small or not without memory
        build_without_memory(json.dumps(cfg.model.backbone, sort_keys=True))
    shrink_model(cfg.model)
    model = MODELS.build(cfg.model)
    build_optim_wrapper(model, cfg.optim_wrapper)
    for hook in cfg.get('custom_hooks', []):
        HOOKS.build(hook)
    for name in LOADERS:
        if name in cfg:
            Compose(cfg[name].dataset.pipeline)


NETWORKS = dict(seam='SEAMHead', affinity='AffinityHead', pspnet='PSPHead', fcn='FCNHead')
BACKBONES = dict(resnet38d='ResNet38d', res2net101='mmpretrain.Res2Net', vit='TokenViT', deit='TokenViT')
BACKBONES |= dict.fromkeys(('scalenet50', 'scalenet101'), 'ScaleNet')
DATA = dict(voc12aug='WeakVOCDataset', voc12mini='WeakVOCDataset', coco14='WeakCOCODataset', shapes='ShapesDataset')


@pytest.mark.parametrize('path', [path for path in CANONICAL if path.parent == PMM], ids=short_id)
def test_pmm_is_what_its_names_and_comments_say(path: Path) -> None:
    text, cfg = path.read_text(), load_config(path)
    assert re.match(r'# [A-Z]', text), 'the first line says what the config is'
    network, backbone, data = re.match(r'([a-z]+)_(\w+?)(?:-\w+)?_\d+xb\d+-\d+k?_([a-z0-9]+)', path.stem).groups()
    assert cfg.model.get('decode_head', cfg.model.get('head')).type == NETWORKS[network]
    assert cfg.model.backbone.type == BACKBONES[backbone]
    assert cfg.train_dataloader.dataset.type == DATA[data]
    assert {*re.findall(r"'\./([a-z]+)_", text)} <= {network}, 'a row of the same network'


@pytest.mark.parametrize('path', THROUGH_RUNNER, ids=short_id)
def test_trains_and_evaluates(path: Path, tiny, tmp_path: Path) -> None:
    cfg = tiny(path)
    runner = Runner.from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert (tmp_path / 'iter_2.pth').is_file()
    renews = any(hook.type == 'CyclicPseudoMaskHook' for hook in cfg.get('custom_hooks', []))
    assert (tmp_path / 'cyclic_masks' / 'current.json').is_file() == renews
    chosen_by = cfg.default_hooks.checkpoint.get('save_best', [])
    for score in [chosen_by] if isinstance(chosen_by, str) else chosen_by:
        assert (tmp_path / f'best_{score.replace("/", "_")}_iter_2.pth').is_file()
    if 'test_dataloader' not in cfg:
        return
    scores = runner.test()
    assert 0 <= scores['seg_mIoU'] <= 100
    if not cfg.model.type.endswith('EncoderDecoder'):
        assert {'maps_mIoU+tags', 'pseudo_mIoU+tags', 'mAP'} <= scores.keys()
    assert len(list(tmp_path.rglob('panels/*.png'))) == len(runner.test_dataloader.dataset) + 1, 'and the overview'


@pytest.mark.parametrize('path', OTHERS, ids=short_id)
def test_takes_a_step_and_predicts(path: Path, tiny) -> None:
    cfg = tiny(path)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    np.random.seed(0)
    model.train()
    model.iteration = 1  # as AssignmentHook says it in the second iteration
    losses = model.train_step(pseudo_collate([train[i] for i in range(BATCH)]), wrapper)
    assert losses.keys() >= {'loss'}
    if cfg.model.type in LOSSES:
        assert {name for name in losses if name.startswith('loss_')} - {'loss_idle'} == expected_losses(cfg)
    assert all(value.isfinite() for value in losses.values())
    if 'val_dataloader' not in cfg:
        return
    val = DATASETS.build(cfg.val_dataloader.dataset)
    model.eval()
    (sample,) = model.val_step(pseudo_collate([val[0]]))
    assert sample.pred_sem_seg.data.shape == (1, *sample.ori_shape)
    if cfg.model.type.endswith('EncoderDecoder'):
        return
    present = (1 + sample.image_labels.nonzero().flatten()).tolist()
    assert set(sample.pseudo_mask.data.unique().tolist()) <= {0, *present}


def test_bases_are_used() -> None:
    text = ''.join(path.read_text() for path in CANONICAL)
    bases = [*CONFIGS.glob('_base_/*/*.py'), *CONFIGS.glob('_base_/*.py')]
    bases = [path for path in bases if path.parent.name != 'pseudo_labels']  # for the tools, which look them up by name
    text += ''.join(path.read_text() for path in bases)
    assert not [path.name for path in bases if f'/{path.name}' not in text]
