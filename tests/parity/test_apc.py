"""APC's parts against a plain reference of our reading of it; no official code is known.

Sizes, class counts and cases are read from the vectors, settings from ``_index.json`` beside them or from the names of
the cases.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from vectors import close, load, planes, tensor, vectors

from mmwsss.models.heads import PatchClassHead
from mmwsss.models.losses import balanced_cross_entropy, multilabel_cls_loss
from mmwsss.models.losses.patch_contrast import PatchContrastLoss, patch_contrast_loss, patch_pairs
from mmwsss.models.poolings import AdaptiveKPooling
from mmwsss.ops import RESIZERS
from mmwsss.pseudo_labels import ignore_uncertain, maps_to_mask, to_distribution
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.normalize import keep_channels
from mmwsss.registry import MODELS

DEFAULT = dict(rule='ratio', tau=0.9, kmin=2, kmax=10)
UNBOUNDED = dict(kmin=1, kmax=None)
# Of files without an entry in _index.json.
THRESHOLDS = [[0.85, 0.15], [0.7, 0.3], [0.5, 0.5]]
STAGE_1 = dict(alpha=0.1, eps_high=0.7, eps_low=0.3, **DEFAULT)
CONFIDENCE = 0.6
# The gradients of one file were made with one of its cases, which only its K shows; these if its cases are others.
GRADIENT_CASES = ('default', 'relgap_2_10')


def arguments(path: Path) -> str:
    """What ``_index.json`` says about the settings of a file, '' where it says nothing."""
    index = path.with_name('_index.json')
    entries = json.loads(index.read_text()) if index.is_file() else []
    return next((entry['args'] for entry in entries if entry['file'] == path.name), '')


def settings(path: Path) -> dict:
    """The same, where it is a mapping."""
    text = arguments(path)
    return json.loads(text) if text.startswith('{') else {}


def named_settings(case: str) -> dict:
    """Settings of ``AdaptiveKPooling`` that the name of a case stands for, e.g. 'ratio05_2_10' or 'relgap_1_N'."""
    if case in ('default', 'max'):
        return dict(default=DEFAULT, max=dict(rule='max'))[case]
    if match := re.fullmatch(r'fixed_?(\d+|all)', case):
        return dict(rule='fixed', k=10**6 if match[1] == 'all' else int(match[1]))
    match = re.fullmatch(r'(ratio|relgap|gap)(\d*)(?:_(\d+))?(?:_(\d+|N))?', case)
    assert match, f'case {case!r} of the pooling is in no _index.json, and its name does not say its settings'
    rule, share, lowest, highest = match.groups()
    return dict(
        rule=dict(relgap='rel_gap').get(rule, rule),
        **(dict(tau=float(f'{share[0]}.{share[1:]}')) if share else {}),
        kmin=int(lowest or 1),
        kmax=int(highest) if highest and highest != 'N' else None,
    )


def pooling(path: Path, case: str) -> AdaptiveKPooling:
    return AdaptiveKPooling(**(UNBOUNDED | (settings(path).get(case) or named_settings(case))))


def grid(rows: np.ndarray) -> Tensor:
    """Patches (..., N, C) as maps (B, C, N, 1)."""
    maps = tensor(rows).transpose(-1, -2)[..., None]
    return maps if maps.ndim == 4 else maps[None]


def counts(pool: AdaptiveKPooling, scores: Tensor) -> Tensor:
    return pool.count(scores.flatten(2).sort(dim=-1, descending=True).values)


def batched(array: np.ndarray) -> Tensor:
    return tensor(array)[None] if array.ndim == 1 else tensor(array)


@vectors('apc', '01_*.npz')
def test_poolings(path: Path) -> None:
    data = load(path)
    cases = [key.removeprefix('pooled_') for key in data if key.startswith('pooled_')]
    assert cases
    scores = grid(data['z'])
    for case in cases:
        pool = pooling(path, case)
        close(pool(scores), batched(data[f'pooled_{case}']), atol=1e-6)
        number = batched(data[f'K_{case}'])
        assert torch.equal(counts(pool, scores), number), case
        assert torch.equal(pool.selection(scores).sum(dim=(2, 3)), number), case


@vectors('apc', '01_*.npz')
def test_gradient_of_a_pooling(path: Path) -> None:
    data = load(path)
    scores = grid(data['grad_z_in']).requires_grad_()
    cases = [key.removeprefix('pooled_') for key in data if key.startswith('pooled_')]
    pools = [pooling(path, case) for case in (*cases, *GRADIENT_CASES)]
    pools = [pool for pool in pools if torch.equal(counts(pool, scores), batched(data['grad_K']))]
    assert pools, 'no case chooses grad_K'
    for pool in pools:
        (gradient,) = torch.autograd.grad((pool(scores) * tensor(data['grad_upstream'])).sum(), scores)
        close(gradient, grid(data['grad_z']), atol=1e-5)


@pytest.mark.parametrize(
    ('case', 'expected'),
    [
        ('max', dict(rule='max')),
        ('fixed12', dict(rule='fixed', k=12)),
        ('ratio09', dict(rule='ratio', tau=0.9, kmin=1, kmax=None)),
        ('ratio075_3_8', dict(rule='ratio', tau=0.75, kmin=3, kmax=8)),
        ('ratio05_2_N', dict(rule='ratio', tau=0.5, kmin=2, kmax=None)),
        ('ratio10_N', dict(rule='ratio', tau=1.0, kmin=1, kmax=None)),
        ('gap_2_10', dict(rule='gap', kmin=2, kmax=10)),
        ('relgap_1_N', dict(rule='rel_gap', kmin=1, kmax=None)),
    ],
)
def test_names_of_cases(case: str, expected: dict) -> None:
    assert named_settings(case) == expected


@vectors('apc', '01_*.npz')
def test_names_of_cases_agree_with_the_index(path: Path) -> None:
    for case, entry in settings(path).items():
        assert UNBOUNDED | named_settings(case) == UNBOUNDED | entry, case


@vectors('apc', '02_*.npz')
def test_classification_loss(path: Path) -> None:
    data = load(path)
    scores, labels = tensor(data['pooled']).requires_grad_(), tensor(data['labels'])
    loss = multilabel_cls_loss(scores, labels, eps_in_log=False)
    loss.backward()
    close(loss, data['loss'], rtol=1e-5)
    close(scores.grad, data['grad'], rtol=1e-5)
    module = MODELS.build(dict(type='MultiLabelClsLoss', eps_in_log=False))
    close(module(scores, labels), data['loss'], rtol=1e-5)


@vectors('apc', '03_*.npz')
def test_patch_contrast(path: Path) -> None:
    data = load(path)
    embeddings, maps, labels = grid(data['embed']).requires_grad_(), grid(data['z']), batched(data['labels'])
    thresholds = settings(path).get('eps_high_low', THRESHOLDS)
    cases = [int(match[1]) for match in (re.fullmatch(r'loss_(\d+)', key) for key in data) if match]
    assert cases
    for case in cases:
        high, low = thresholds[case]
        loss = patch_contrast_loss(embeddings, maps, labels, high, low)
        close(loss, data[f'loss_{case}'], atol=1e-6)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        close(gradient, grid(data[f'grad_f_{case}']), atol=1e-5)
        without = patch_contrast_loss(embeddings, maps, labels, high, low, include_bg=False)
        close(without, data[f'loss_nobg_{case}'], atol=1e-6)

        pairs = patch_pairs(embeddings, maps, high, low)
        for number, positive, negative in data[f'pairs_{case}']:
            assert (pairs.positive[0, number], pairs.negative[0, number]) == (positive, negative), (case, number)
        assert data[f'pairs_{case}'][:, 0].tolist() == labels[0].nonzero()[:, 0].tolist()

        for include_bg, expected in ((True, 'loss'), (False, 'loss_nobg')):
            module = PatchContrastLoss(high, low, include_bg, loss_weight=2.0)
            close(module(embeddings, maps, labels) / 2, data[f'{expected}_{case}'], atol=1e-6)


@vectors('apc', '03_*.npz')
def test_patch_contrast_without_confident_patches(path: Path) -> None:
    data = load(path)
    assert data['loss_empty'] == 0
    embeddings, maps, labels = grid(data['embed']).requires_grad_(), grid(data['z']), batched(data['labels'])
    even = torch.full_like(maps, 1 / maps.shape[1])
    # The file does not say how its patches came to be uncertain: thresholds out of reach, or scores all alike.
    for scores, high, low in ((maps, maps.max().item(), 0.0), (even, 0.85, 0.15)):
        loss = patch_contrast_loss(embeddings, scores, labels, high, low)
        close(loss, data['loss_empty'])
        (gradient,) = torch.autograd.grad(loss, embeddings)
        assert (gradient == 0).all()


@vectors('apc', '04_*.npz')
@pytest.mark.parametrize('way', ['modules', 'functions in float64'])
def test_losses_of_a_linear_patch_classifier(path: Path, way: str) -> None:
    data, given = load(path), STAGE_1 | settings(path)
    channels, classes = data['weight'].shape
    pool = {key: value for key, value in given.items() if key in ('rule', 'tau', 'kmin', 'kmax', 'k')}
    head = PatchClassHead(channels, classes, dropout=0.0, pooling=dict(type='AdaptiveKPooling', **pool)).double()
    head.classifier.weight.data = tensor(data['weight']).T.contiguous()
    embeddings, labels = grid(data['embed']).requires_grad_(), tensor(data['labels'])
    thresholds, alpha = (given['eps_high'], given['eps_low']), given['alpha']
    if way == 'modules':
        maps = head.maps(embeddings)
        scores = head.image_scores(maps)
        mce = MODELS.build(dict(type='MultiLabelClsLoss', eps_in_log=False))(scores, labels)
        contrast = PatchContrastLoss(*thresholds, loss_weight=alpha)(embeddings, maps, labels)
    else:
        maps = head(embeddings).softmax(dim=1)
        scores = head.image_scores(maps)
        mce = multilabel_cls_loss(scores, labels, eps_in_log=False)
        contrast = alpha * patch_contrast_loss(embeddings, maps, labels, *thresholds)
    loss = mce + contrast
    loss.backward()
    close(maps, grid(data['z']), atol=1e-6)
    assert torch.equal(counts(head.pooling, maps), tensor(data['K']))
    close(scores, data['pooled'], atol=1e-6)
    close(mce, data['mce'], atol=1e-6)
    close(contrast, alpha * data['pce'], atol=1e-6)
    close(loss, data['loss'], atol=1e-6)
    close(embeddings.grad, grid(data['grad_embed']), atol=1e-5)
    close(head.classifier.weight.grad, data['grad_weight'].T, atol=1e-5)


@vectors('apc', '05_*.npz')
def test_online_pseudo_label(path: Path) -> None:
    data = load(path)
    maps, labels = planes(data['z'])[None], tensor(data['labels'])[None]
    size = data['up'].shape[:2]
    enlarged = RESIZERS['half_pixel'](to_distribution(keep_channels(maps, labels > 0)), size)
    close(enlarged[0], planes(data['up']), atol=1e-6)
    mask = maps_to_mask(enlarged, 1.0, has_background=True)
    assert torch.equal(mask[0], tensor(data['pseudo']))
    stated = re.search(r'confidence threshold ([\d.]+)', arguments(path))
    confidence = float(stated[1]) if stated else CONFIDENCE
    uncertain = ignore_uncertain(mask, enlarged.amax(dim=1), confidence)
    assert torch.equal(uncertain[0], tensor(data['pseudo_ignore']))
    steps = [
        dict(type='MaskAbsent'),
        dict(type='Distribution'),
        dict(type='Resize', rule='half_pixel'),
        dict(type='Decide'),
        dict(type='IgnoreUncertain', confidence=confidence),
    ]
    state = PseudoLabeler(steps)(LabelState(maps, True, size, labels=labels[:, 1:]))
    assert torch.equal(state.mask[0], tensor(data['pseudo_ignore']))


@vectors('apc', '05_*.npz')
def test_loss_of_the_decoder(path: Path) -> None:
    data = load(path)
    logits, mask = planes(data['dec_logits'])[None], tensor(data['pseudo_ignore'])[None]
    for key, share in (('ce_mean', None), ('ce_balanced', 0.5)):
        close(balanced_cross_entropy(logits, mask, share), data[key], rtol=1e-5)
        module = MODELS.build(dict(type='BalancedCELoss', fg_weight=share))
        close(module(logits.log_softmax(dim=1), mask), data[key], rtol=1e-5)
