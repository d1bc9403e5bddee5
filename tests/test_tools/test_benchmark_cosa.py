import importlib
import json
import math
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
KEYS = {'name', 'ours_s', 'reference_s', 'ratio', 'max_rel_loss_diff', 'max_rel_grad_diff'}
KEYS |= {'batch', 'crop', 'threads', 'device'}
WIDTH = 16
CASES = ['cosa_step', 'cosa_step_bf16_assignment', 'cosa_warmup_step']


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module('cosa_step')


@pytest.fixture
def tiny(tool, tmp_path):
    """Writes a config of a tiny network with further settings of the model and returns its path."""

    def write(**settings):
        arch = dict(_delete_=True, embed_dims=WIDTH, num_layers=3, num_heads=2, feedforward_channels=32)
        head = dict(in_channels=WIDTH)
        model = dict(head=head, aux_head=head, decode_head=dict(in_channels=WIDTH, channels=8)) | settings
        model['backbone'] = dict(arch=arch, out_indices=[1, 2])
        path = tmp_path / 'tiny.py'
        path.write_text(f'_base_ = {str(tool.CONFIG)!r}\nmodel = {model!r}\n')
        return path

    return write


def arguments(path, *more):
    return ['--config', str(path), '--batch', '2', '--crop', '64', '--repeat', '1', *map(str, more)]


def test_both_sides_do_the_same(tool, tiny, tmp_path, capsys):
    target = tmp_path / 'out' / 'result.json'
    assert tool.main(arguments(tiny(), '--profile', '--json', target)) == 0
    entries = {entry['name']: entry for entry in json.loads(target.read_text())}
    assert list(entries) == CASES
    for name, entry in entries.items():
        assert entry.keys() == KEYS
        assert entry['ratio'] == entry['reference_s'] / entry['ours_s']
        if name != CASES[1]:
            assert entry['max_rel_loss_diff'] < 1e-5
            assert entry['max_rel_grad_diff'] < 1e-4
    printed = capsys.readouterr().out
    for section in ('assignment network', 'label operations', 'energy loss', 'warm-up step'):
        assert section in printed


def test_average_and_weights_agree_after_a_step(tool, tiny):
    config = tool.Config.fromfile(tiny())
    device = torch.device('cpu')
    comparison = tool.Comparison(tool.load_model(config, False, device), config, device)
    batch = tool.draw_batch(comparison.sides['ours'].model, 2, 64, seed=3)
    for name in ('ours', 'reference'):
        comparison._step(name, batch, False)
    for network in ('online', 'assignment'):
        ours, theirs = (getattr(comparison.sides[name], network).state_dict() for name in ('ours', 'reference'))
        moved = 0.0
        for name, value in theirs.items():
            # Adam's first step is the sign of the gradient, which rounding turns where there is hardly any, as in the
            # biases of the keys.
            if name.endswith('qkv.bias'):
                continue
            assert ((ours[name] - value).abs() > 1e-6).float().mean() < 2e-3, name
            moved = max(moved, float((value - comparison.initial[network][name]).abs().max()))
        assert moved > 1e-6


def test_a_difference_of_the_losses_is_an_error(tool, tiny, capsys, monkeypatch):
    losses = tool.PlainCoSA.losses

    def wrong(self, *batch):
        found = losses(self, *batch)
        return found | dict(s2c=1.01 * found['s2c'])

    monkeypatch.setattr(tool.PlainCoSA, 'losses', wrong)
    assert tool.main(arguments(tiny())) == 1
    assert 'differ by 9.9e-03' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        (dict(aux_scales='sum'), 'aux_scales'),
        (dict(reliability=dict(type='ReliabilityWeights')), 'reliability'),
        (dict(loss_energy=None), 'loss_energy'),
        (dict(loss_s2c=dict(version='v2')), 'v2'),
    ],
)
def test_other_variants_are_refused(tool, tiny, capsys, settings, named):
    assert tool.main(arguments(tiny(**settings))) == 1
    error = capsys.readouterr().err
    assert named in error
    assert 'tiny.py' in error


def test_missing_config_is_named(tool, tmp_path, capsys):
    assert tool.main(arguments(tmp_path / 'none.py')) == 1
    assert 'none.py' in capsys.readouterr().err


def test_batches_are_reproducible_and_padded(tool, tiny):
    model = tool.load_model(tool.Config.fromfile(tiny()), False, torch.device('cpu'))
    first, again, other = (tool.draw_batch(model, 4, 48, seed) for seed in (1, 1, 2))
    assert all(torch.equal(*pair) for pair in zip(first, again))
    assert not torch.equal(first.weak, other.weak)
    assert not torch.equal(first.weak, first.strong)
    present = first.labels.sum(dim=1)
    assert present.min() >= 1
    assert present.max() <= 3
    assert first.boxes.tolist() == [[0, 48, 0, 48], [0, 48, 0, 42]] * 2
    padding = -model.data_preprocessor.mean / model.data_preprocessor.std
    torch.testing.assert_close(first.weak[1, :, :, 42:], padding.expand(3, 48, 6))


def test_losses_that_are_not_numbers_are_far_apart(tool):
    one = torch.tensor(1.0)
    assert tool.loss_gap(dict(a=one, b=one), dict(a=2 * one)) == 0.5
    assert tool.loss_gap(dict(a=one * math.nan), dict(a=one)) == math.inf


def test_time_counts_for_the_innermost_section(tool, monkeypatch):
    module = importlib.import_module('step_clock')
    times = iter(range(0, 100, 10))
    monkeypatch.setattr(module, 'now_on', lambda device: next(times))
    clock = module.Clock(torch.device('cpu'))

    class Work:
        def inner(self):
            return 5

    work = Work()
    clock.watch(work, 'inner', 'inner')
    with clock.section('outer'):
        assert work.inner() == 5
    assert not clock.seconds
    clock.running = True
    with clock.section('outer'):
        assert work.inner() == 5
    assert clock.seconds == {'outer': 20, 'inner': 10}


@pytest.mark.parametrize('options', [['--repeat', '0'], ['--batch', '-1'], ['--threads', '0'], ['--device']])
def test_bad_arguments_are_refused(tool, options):
    with pytest.raises(SystemExit):
        tool.parse_args(options)
