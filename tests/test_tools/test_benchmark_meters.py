import json

import pytest
import torch
import torch.nn.functional as F
from benchmark_cases import FOLDER, load, tiny_case

from mmwsss.ops.linear import linear

CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def test_what_is_spent_counts_for_the_innermost_section():
    clock = load('step_clock').Clock()
    ticks = iter(range(0, 1000, 10))

    class Work:
        def inner(self):
            return 5

    work = Work()
    clock.watch(work, 'inner', 'student')
    with clock.section('losses'):
        assert work.inner() == 5
    with clock.measure(lambda: next(ticks)) as spent:
        with clock.section('losses'):
            assert work.inner() == 5
        with clock.section('teacher'):
            assert work.inner() == 5
    assert spent['losses'] == 20
    assert spent['student'] == 10
    assert spent['teacher'] == 10, 'a teacher keeps what runs inside'
    with clock.section('data'):
        pass
    assert spent['data'] == 0


def test_operations_of_the_cpu_count_like_those_of_a_gpu():
    counter = load('step_flops').counter

    def count(work):
        with counter() as counted:
            work()
        return counted.get_total_flops()

    x, weight = torch.randn(512, 128, requires_grad=True), torch.randn(256, 128, requires_grad=True)
    assert count(lambda: linear(x, weight)) == 2 * 512 * 128 * 256
    assert count(lambda: linear(x, weight).sum().backward()) == 3 * 2 * 512 * 128 * 256
    query = torch.randn(2, 3, 50, 16, requires_grad=True)
    products = 2 * 2 * 3 * 50 * 50 * 16
    assert count(lambda: F.scaled_dot_product_attention(query, query, query)) == 2 * products
    assert count(lambda: F.scaled_dot_product_attention(query, query, query).sum().backward()) == 7 * products
    lstm = torch.nn.LSTM(8, 4, batch_first=True)
    steps = torch.randn(3, 5, 8, requires_grad=True)
    assert count(lambda: lstm(steps)[0].sum().backward()) == 3 * 2 * 3 * 5 * (16 * 8 + 16 * 4)


def test_peak_of_a_product_is_positive(monkeypatch):
    flops = load('step_flops')
    monkeypatch.setitem(flops.SIDE, 'cpu', 64)
    assert flops.measured_peak(CPU, torch.float32) > 0
    assert flops.measured_peak(CPU, torch.bfloat16) > 0


def test_memory_is_the_most_that_is_held_at_a_time():
    memory = load('step_memory')
    size = 4 * 2**18

    def work():
        first = torch.ones(2**18)
        second = first + 1
        del first
        third = second * 2
        return third

    assert size * 2 <= memory.peak_of(work, CPU) <= size * 2 + 1024
    assert memory.peak_of(lambda: None, CPU) == 0


def test_state_counts_shared_storage_once():
    memory = load('step_memory')
    layer = torch.nn.Linear(10, 10, bias=False)
    layer.again = layer.weight
    optimizer = torch.optim.SGD(layer.parameters(), momentum=0.9, lr=0.1)
    assert memory.state_bytes(layer, optimizer) == 400
    layer(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    assert memory.state_bytes(layer, optimizer) == 1200


def test_memory_grows_along_the_line_of_two_batches():
    found = load('memory').Memory(state=10, steps={4: 100, 8: 160})
    assert found.per_image == 15
    assert found.at(4) == 100
    assert found.at(16) == 280
    assert load('memory').Memory(10, {16: 300}).at(16) == 300


def test_memory_of_a_tiny_network(monkeypatch, tmp_path, capsys):
    tool = load('memory')
    case = tiny_case('cosa_step', tmp_path)
    monkeypatch.setattr(tool, 'ROWS', (tool.Row('cosa', 'cosa', tool.Place(case.cpu.config, 3, 96)),))
    out = tmp_path / 'memory.json'
    assert tool.main(['--methods', 'cosa', '--json', str(out)]) == 0
    (entry,) = json.loads(out.read_text())
    assert entry['name'] == 'cosa_memory'
    assert entry['measured_batches'] == [1, 2]
    assert entry['peak_gib'] > entry['per_image_gib'] > 0
    assert entry['peak_gib'] > entry['state_gib'] > 0
    assert 'cosa' in capsys.readouterr().out


def test_efficiency_compares_with_the_smallest_number_of_processes():
    tool = load('scaling')
    work = tool.Work(tool.CONFIG, batch=4, crop=64, steps=1, half=False, threads=1, device='cpu')
    one, two, four = tool.summarise({1: 1.0, 2: 1.0, 4: 2.0}, work)
    assert (one['images_per_s'], two['images_per_s'], four['images_per_s']) == (4, 8, 8)
    assert (one['efficiency'], two['efficiency'], four['efficiency']) == (1, 1, 0.5)


@pytest.mark.parametrize(
    'options', [['--processes', '0'], ['--steps', '0'], ['--config', 'none.py'], ['--device', 'tpu']]
)
def test_bad_arguments_of_scaling_are_refused(options):
    with pytest.raises(SystemExit):
        load('scaling').parse_args(options)


@pytest.mark.slow
def test_two_processes_train_together(tmp_path, capsys):
    out = tmp_path / 'scaling.json'
    config = tiny_case('vitpcm_step', tmp_path).cpu.config
    options = ['--config', config, '--processes', '1', '2', '--crop', '64', '--steps', '1', '--json', str(out)]
    assert load('scaling').main(options) == 0
    assert [entry['processes'] for entry in json.loads(out.read_text())] == [1, 2]
    assert 'efficiency' in capsys.readouterr().out
