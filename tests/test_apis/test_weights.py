"""Weights that do not fit the model are refused, whatever wraps it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from cosa_cases import SEARCHED, build_cosa
from torch import nn

from mmwsss.apis import testing
from mmwsss.apis.launch import UsageError
from mmwsss.apis.testing import innermost, load_weights, read_checkpoint
from mmwsss.models.segmentors import CoSA


def network(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, width, 1), nn.BatchNorm2d(width))


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def equal(first: nn.Module, second: nn.Module) -> bool:
    others = second.state_dict()
    return all(torch.equal(value, others[name]) for name, value in first.state_dict().items())


def test_everything_is_loaded_through_wrappers() -> None:
    source = network()
    for weights in (source.state_dict(), {f'module.{name}': value for name, value in source.state_dict().items()}):
        for content in (weights, dict(state_dict=weights, meta={})):
            model = Wrapper(Wrapper(network()))
            load_weights(model, content, 'a.pth')
            assert equal(innermost(model), source)


def test_what_only_training_needs_may_be_more_or_less() -> None:
    state = network().state_dict()
    del state['1.num_batches_tracked']
    load_weights(network(), state | {'auxiliary_head.conv_seg.bias': torch.ones(3)}, 'a.pth')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda state: state.pop('0.bias'),
            r'a\.pth does not fit the model of the config: 1 weights missing \(0\.bias\)$',
        ),
        (lambda state: state.clear(), r'6 weights missing \(0\.weight, 0\.bias, 1\.weight, \.\.\.\)$'),
        (
            lambda state: state.update(network(4).state_dict()),
            r'6 weights of another shape \(0\.weight: \(4, 2, 1, 1\) instead of \(3, 2, 1, 1\), 0\.bias: ',
        ),
        (
            lambda state: state.update({'2.bias': torch.ones(1)}),
            r'1 weights that the model has no place for \(2\.bias\)$',
        ),
    ],
)
def test_other_weights_are_refused(change, message: str) -> None:
    state = network().state_dict()
    change(state)
    with pytest.raises(UsageError, match=message) as caught:
        load_weights(network(), dict(state_dict=state), 'a.pth')
    assert '\n' not in str(caught.value)


def test_a_file_without_weights() -> None:
    with pytest.raises(UsageError, match='its state_dict is no dict of weights'):
        load_weights(network(), dict(state_dict=3), 'a.pth')
    with pytest.raises(UsageError, match='weights missing'):
        load_weights(network(), dict(model={}, epoch=3), 'a.pth')


def part(model: CoSA, stream: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if name.startswith(f'{stream}.')}


@pytest.mark.parametrize(('stream', 'other'), [('assignment', 'online'), ('online', 'assignment')])
def test_one_stream_of_cosa_is_enough_if_it_predicts(stream: str, other: str) -> None:
    source, model = build_cosa(1), build_cosa(2, test_cfg=dict(stream=stream), threshold=SEARCHED)
    load_weights(model, part(source, stream), 'a.pth')
    assert equal(getattr(model, stream), getattr(source, stream))
    with pytest.raises(
        UsageError, match=rf'no weights of the stream {stream}, only of {other}; set model\.test_cfg\.st'
    ):
        load_weights(model, part(source, other), 'a.pth')
    cut = part(source, stream)
    cut.pop(f'{stream}.head.classifier.weight')
    with pytest.raises(UsageError, match=rf'1 weights missing \({stream}\.head\.classifier\.weight\)'):
        load_weights(model, cut | part(source, other), 'a.pth')
    with pytest.raises(UsageError, match=rf'no place for \({stream}\.neck\.weight\)'):
        load_weights(model, source.state_dict() | {f'{stream}.neck.weight': torch.ones(1)}, 'a.pth')


def test_memory_of_thresholds_is_not_needed() -> None:
    source = build_cosa(1, threshold={**SEARCHED, 'rows': 9})
    for model in (build_cosa(2), build_cosa(2, threshold=SEARCHED)):
        load_weights(model, source.state_dict(), 'a.pth')
        assert equal(model.assignment, source.assignment)
        assert equal(model.online, source.online)


def test_files_of_the_official_training_are_to_be_converted(tmp_path: Path) -> None:
    torch.save(dict(model={}, args=argparse.Namespace(lr=1.0)), tmp_path / 'voc.pth')
    with pytest.raises(
        UsageError, match=r'voc\.pth holds .* convert it with tools/model_converters/cosa_to_mmwsss\.py'
    ):
        read_checkpoint(str(tmp_path / 'voc.pth'))


def test_classes_of_another_order() -> None:
    """Equal numbers of classes load without a word, so that their names have to tell."""
    checkpoint = dict(meta=dict(dataset_meta=dict(classes=('background', 'cat', 'dog'))))
    with pytest.raises(UsageError, match=r'x\.pth was trained with class 1 = cat, the data of this config have dog'):
        testing._check_classes(checkpoint, dict(classes=('background', 'dog', 'cat')), 'x.pth')
    for metainfo in (dict(classes=['background', 'cat', 'dog']), dict(classes=('background', 'cat')), {}):
        testing._check_classes(checkpoint, metainfo, 'x.pth')
    testing._check_classes(dict(meta=None), dict(classes=('background',)), 'x.pth')
