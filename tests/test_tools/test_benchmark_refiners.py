import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

FOLDER = Path(__file__).parents[2] / 'tools' / 'benchmarks'
KEYS = {'name', 'ours_s', 'reference_s', 'ratio', 'peak_mem_ratio', 'max_abs_diff', 'reference'}


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module('refiners')


def tiny_cases(tool):
    return (
        tool.Case('par_tiny', 'par', 26, 30, 5, 3),
        tool.Case('crf_tiny', 'crf', 26, 30, 5, 3),
        tool.Case('walk_tiny', 'walk', 26, 30, 5, 5),
    )


@pytest.mark.parametrize(('place', 'tolerance'), [(0, 1e-5), (1, 1e-2), (2, 1e-5)])
def test_both_sides_agree(tool, place, tolerance):
    case = tiny_cases(tool)[place]
    images = tool.load_images(None, 2, case.height, case.width)
    calls = []
    result = tool.run_case(case, images, repeat=2, memory=False, advance=lambda: calls.append(1))
    assert len(calls) == 3
    assert result.max_abs_diff < tolerance
    assert result.ratio == result.reference_s / result.ours_s
    assert result.peak_mem_ratio is None
    assert result.entry().keys() == KEYS


def test_maps_are_empty_in_absent_channels(tool):
    case = tiny_cases(tool)[0]
    cases = importlib.import_module('refiner_cases')
    maps, labels = cases.draw_maps(case, torch.device('cpu'))
    assert labels.tolist() == [[1, 1, 0, 0]]
    assert not maps[:, 3:].any()
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(1, 26, 30))


def test_scenes_are_reproducible_and_not_flat(tool):
    cases = importlib.import_module('refiner_cases')
    scene = cases.draw_scene(20, 30, seed=1)
    assert scene.shape == (20, 30, 3)
    assert np.array_equal(scene, cases.draw_scene(20, 30, seed=1))
    assert not np.array_equal(scene, cases.draw_scene(20, 30, seed=2))
    assert scene.std() > 10


def test_memory_is_that_of_one_call_and_ours_is_far_less(tool):
    case = tool.Case('par', 'par', 160, 160, 21, 21)
    image = tool.load_images(None, 1, 160, 160)[0]
    ours = tool.in_fresh_process(case, True, image, 'cpu')
    # Arrays this large come from the system and go back to it, so this process serves as well as a fresh one.
    reference = tool.peak_memory(case, False, image, 'cpu', torch.get_num_threads())
    if ours is None or reference is None:
        pytest.skip('this system does not tell the peak memory of a process')
    copies = 4 * 160 * 160 * 48 * 21  # bytes of a copy of all channels for every neighbour
    assert copies < reference < 4 * copies
    weights = 4 * 160 * 160 * 48
    assert 0.5 * weights < ours <= 0.2 * reference


def test_memory_is_unknown_where_the_peak_cannot_be_reset(tool, tmp_path, monkeypatch):
    memory = importlib.import_module('process_memory')
    case = tiny_cases(tool)[0]
    image = tool.load_images(None, 1, case.height, case.width)[0]
    for missing in ('RESET', 'STATUS'):
        with monkeypatch.context() as patch:
            patch.setattr(memory, 'RESET', tmp_path / 'clear_refs')
            patch.setattr(memory, missing, tmp_path / 'none' / 'file')
            assert memory.reset_peak() is None
            assert tool.peak_memory(case, True, image, 'cpu', torch.get_num_threads()) is None
    result = tool.Result(case, 'reference', 1.0, 2.0, 0.0, None, None)
    cells = [list(column.cells) for column in tool.build_table([result], 'cpu').columns]
    assert [column[0] for column in cells[6:9]] == ['-', '-', '-']


def test_the_warm_up_is_not_in_the_medians(tool, monkeypatch):
    case = tiny_cases(tool)[0]
    spent = iter([100.0, 200.0, 1.0, 2.0, 3.0, 6.0])
    monkeypatch.setattr(tool, 'timed', lambda work, device: (next(spent), work()))
    result = tool.run_case(case, tool.load_images(None, 2, case.height, case.width), repeat=2, memory=False)
    assert (result.ours_s, result.reference_s, result.ratio) == (2.0, 4.0, 2.0)
    assert not list(spent)


def test_table_and_json_of_photographs(tool, tmp_path, capsys, monkeypatch):
    for name in ('a.jpg', 'b.png'):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.setattr(tool, 'in_fresh_process', lambda case, ours, *_: 100 if ours else 400)
    monkeypatch.setattr(tool, 'CASES', tiny_cases(tool))
    target = tmp_path / 'out' / 'result.json'
    options = ['--images', str(tmp_path), '--repeat', '1', '--json', str(target), '--only', 'par_tiny', 'walk_tiny']
    assert tool.main(options) == 0
    entries = json.loads(target.read_text())
    assert [entry['name'] for entry in entries] == ['par_tiny', 'walk_tiny']
    assert all(entry.keys() == KEYS and entry['peak_mem_ratio'] == 0.25 for entry in entries)
    printed = capsys.readouterr().out
    assert 'par_tiny' in printed
    assert '25 %' in printed
    assert 'crf_tiny' not in printed


def test_folder_without_pictures_is_named(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, 'CASES', tiny_cases(tool))
    assert tool.main(['--images', str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize('options', [['--repeat', '0'], ['--only', 'par_9']])
def test_bad_arguments_are_refused(tool, options):
    with pytest.raises(SystemExit):
        tool.parse_args(options)
