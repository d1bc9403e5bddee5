import json
from dataclasses import replace

import pytest
import torch
from benchmark_cases import BATCH, CROP, FOLDER, load, tiny_case
from mmengine.config import Config

CPU = torch.device('cpu')
NAMES = [
    'vitpcm_step',
    'apc_step',
    'cosa_step',
    'cosa_step_bf16_assignment',
    'cosa_warmup_step',
    'acr_step',
    'pmm_step',
    'pmm_affinity_step',
]
KEYS = {'name', 'ours_s', 'reference_s', 'ratio', 'goal', 'images_per_s', 'peak_memory_mb', 'reference_peak_memory_mb'}
KEYS |= {'split', 'reference_split', 'mfu', 'mfu_student', 'max_rel_loss_diff', 'rel_grad_diff', 'settings'}


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def compare(tmp_path):
    """Both sides of a tiny case, and a batch."""

    def build(name, seed=0, **settings):
        case = tiny_case(name, tmp_path, **settings)
        comparison = load('step_comparison').Comparison(case, Config.fromfile(case.cpu.config), False, CPU)
        return comparison, load('step_batches').draw_batch(comparison.ours.model, BATCH, CROP, seed)

    return build


def test_every_method_has_its_step():
    cases = load('step_cases')
    assert [case.name for case in cases.CASES] == NAMES
    assert {f'{method}_step' for method in cases.METHODS} <= set(NAMES)
    for case in cases.CASES:
        assert (cases.CONFIGS / case.cpu.config).is_file()
        assert (cases.CONFIGS / case.gpu.config).is_file()


@pytest.mark.parametrize('name', [name for name in NAMES if 'bf16' not in name])
def test_ours_does_what_the_plain_procedure_does(compare, name):
    comparison, batch = compare(name)
    losses, gradients = comparison.gaps(batch)
    assert losses < 1e-5
    assert gradients < 1e-3


def test_dropout_is_only_off_for_the_comparison(compare):
    comparison, batch = compare('vitpcm_step')
    comparison.gaps(batch)
    assert comparison.ours.model.neck.dropout.p == comparison.reference.network.drop_neck.p == 0.2
    assert all(weight.grad is None for weight in comparison.ours.model.parameters())


def test_losses_that_are_compared_are_not_empty(compare):
    comparison, batch = compare('apc_step')
    losses = comparison.ours.forward(batch)
    assert losses.keys() == {'loss_mce', 'loss_pce', 'loss_seg'}
    assert all(value > 1e-4 for value in losses.values()), 'there are confident patches and labelled pixels'
    comparison, batch = compare('pmm_step')
    assert comparison.ours.forward(batch).keys() == {'loss_cls', 'loss_min', 'loss_er', 'loss_ecr'}


def test_average_and_weights_agree_after_a_step_of_cosa(compare):
    comparison, batch = compare('cosa_step', seed=3)
    before = {name: weight.clone() for name, weight in comparison.reference.network.named_parameters()}
    for side in comparison.sides.values():
        side.step(batch)
    ours, moved = dict(comparison.ours.model.named_parameters()), 0.0
    for name, weight in comparison.reference.network.named_parameters():
        # Adam's first step is the sign of the gradient, which rounding turns where there is hardly any, as in the
        # biases of the keys.
        if not name.endswith('qkv.bias'):
            assert ((ours[name] - weight).abs() > 1e-6).float().mean() < 2e-3, name
            moved = max(moved, float((weight - before[name]).abs().max()))
    assert moved > 1e-6


@pytest.fixture
def tiny_cases(monkeypatch, tmp_path):
    """The command with two tiny cases."""
    tool = load('train_step')
    cases = tuple(tiny_case(name, tmp_path) for name in ('acr_step', 'cosa_step_bf16_assignment'))
    monkeypatch.setattr(tool, 'CASES', cases)
    return tool


def test_command_prints_and_writes_all_fields(tiny_cases, tmp_path, capsys):
    out = tmp_path / 'out' / 'steps.json'
    assert tiny_cases.main(['--repeat', '2', '--peak-tflops', '0.1', '--json', str(out)]) == 0
    printed = capsys.readouterr().out
    entries = {entry['name']: entry for entry in json.loads(out.read_text())}
    assert list(entries) == ['acr_step', 'cosa_step_bf16_assignment']
    for name, entry in entries.items():
        assert entry.keys() == KEYS
        assert name in printed
        assert entry['ratio'] == entry['reference_s'] / entry['ours_s']
        assert entry['images_per_s'] == pytest.approx(BATCH / entry['ours_s'])
        assert list(entry['split']) == list(load('step_clock').SECTIONS)
        assert entry['settings']['peak_tflops'] == pytest.approx(0.1)
        assert entry['settings']['batch'] == BATCH
        assert 0 < entry['mfu'] < 1
        assert entry['peak_memory_mb'] > 0
    assert entries['acr_step']['max_rel_loss_diff'] < 1e-5
    assert entries['acr_step']['split']['teacher'] == 0
    assert entries['cosa_step_bf16_assignment']['split']['teacher'] > 0
    assert entries['cosa_step_bf16_assignment']['reference_split']['refine'] > 0


def test_sections_of_a_step_sum_up_to_it(compare, monkeypatch):
    comparison, batch = compare('apc_step')
    module = load('step_comparison')
    ticks = iter(range(10**6))
    monkeypatch.setattr(module, 'now_on', lambda device: next(ticks))
    for name in comparison.sides:
        seconds, split = comparison._step(name, batch, detailed=True)
        outside = seconds - sum(split.values())
        # Before and after the step, and between its five outermost sections.
        assert 0 < outside <= 7
        assert all(split[section] > 0 for section in ('data', 'student', 'refine', 'losses', 'backward', 'optimizer'))


def test_a_difference_of_the_losses_is_an_error(tiny_cases, monkeypatch, capsys):
    acr = load('references.acr')
    losses = acr.PlainACR.losses

    def wrong(self, batch):
        found = losses(self, batch)
        return found | dict(loss_act=1.01 * found['loss_act'])

    monkeypatch.setattr(acr.PlainACR, 'losses', wrong)
    assert tiny_cases.main(['--repeat', '1', '--cases', 'acr_step', '--peak-tflops', '1']) == 1
    assert 'acr_step by 9.9e-03' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'settings', 'named'),
    [
        ('cosa_step', dict(aux_scales='sum'), 'aux_scales'),
        ('cosa_step', dict(reliability=dict(type='ReliabilityWeights')), 'reliability'),
        ('cosa_step', dict(loss_energy=None), 'loss_energy'),
        ('cosa_step', dict(loss_s2c=dict(version='v2')), 'v2'),
        ('vitpcm_step', dict(teacher='train_detach'), 'teacher'),
        ('vitpcm_step', dict(loss_et=None), 'loss_et'),
        ('apc_step', dict(loss_pce=None), 'contrast'),
        ('acr_step', dict(consistency=None), 'consistency'),
        ('pmm_step', dict(loss_min_pool=None), 'SEAM'),
    ],
)
def test_other_variants_are_refused(compare, name, settings, named):
    with pytest.raises(ValueError, match=named):
        compare(name, **settings)


def test_missing_config_is_named(monkeypatch, capsys, tmp_path):
    tool = load('train_step')
    cases = load('step_cases')
    case = next(case for case in cases.CASES if case.name == 'acr_step')
    monkeypatch.setattr(tool, 'CASES', (replace(case, cpu=cases.Place(str(tmp_path / 'none.py'), 4, 64)),))
    assert tool.main(['--peak-tflops', '1', '--cases', 'acr_step']) == 1
    assert 'none.py' in capsys.readouterr().err


@pytest.mark.parametrize(
    'options', [['--repeat', '0'], ['--batch', '-1'], ['--threads', '0'], ['--cases', 'other'], ['--methods', 'irn']]
)
def test_bad_arguments_are_refused(options):
    with pytest.raises(SystemExit):
        load('train_step').parse_args(options)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_the_setting_says_so(capsys):
    assert load('train_step').main(['--setting', 'gpu']) == 1
    assert 'none was found' in capsys.readouterr().err


def test_batches_are_reproducible_and_padded(compare):
    comparison, _ = compare('cosa_step')
    draw = load('step_batches').draw_batch
    first, again, other = (draw(comparison.ours.model, 4, 48, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first.views[name], again.views[name]) for name in ('view_1', 'view_2'))
    assert not torch.equal(first.views['view_1'], other.views['view_1'])
    assert not torch.equal(first.views['view_1'], first.views['view_2'])
    present = first.labels.sum(dim=1)
    assert present.min() >= 1
    assert present.max() <= 3
    assert first.boxes.tolist() == [[0, 48, 0, 48], [0, 48, 0, 42]] * 2
    settings = comparison.ours.model.data_preprocessor
    torch.testing.assert_close(
        first.views['view_1'][1, :, :, 42:], (-settings.mean / settings.std).expand(3, 48, 6)
    )  # fmt: skip


def test_a_crop_that_makes_no_mosaic_is_refused(compare):
    comparison, _ = compare('vitpcm_step')
    with pytest.raises(ValueError, match='multiple of 32'):
        load('step_batches').draw_batch(comparison.ours.model, 4, 80, seed=0)


def test_both_sides_see_the_same_images(compare):
    for name in ('vitpcm_step', 'pmm_affinity_step'):
        comparison, batch = compare(name)
        inputs = comparison.ours.model.data_preprocessor(batch.data(), training=True)['inputs']
        views = inputs if isinstance(inputs, dict) else dict(view_1=inputs)
        assert views.keys() == batch.views.keys()
        for view, images in views.items():
            torch.testing.assert_close(images, batch.views[view])


def test_loss_gaps():
    gap = load('step_comparison').loss_gap
    one = torch.tensor(1.0)
    assert gap(dict(a=one, b=one), dict(a=2 * one, b=one)) == 0.5
    assert gap(dict(a=one * float('nan')), dict(a=one)) == float('inf')
    assert gap(dict(a=one), dict(a=one, b=0 * one)) == 0
    assert gap(dict(a=one, b=one), dict(a=one)) == float('inf')
    assert gap(dict(a=one), dict(a=one, b=one)) == 1
