"""Order, record, resumption and errors of pipelines; the stages are small scripts in the place of the tools."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mmwsss.apis import pipeline as module
from mmwsss.apis.launch import UsageError
from mmwsss.apis.pipeline import RECORD, Pipeline, load_stages

# Notes its arguments; as long as there is a file `fail` beside it, it writes a checkpoint and fails.
TOOL = """
import os, sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index({flag!r}) + 1])
folder.mkdir(parents=True, exist_ok=True)
with open(folder / 'calls.txt', 'a') as stream:
    print(*sys.argv[1:], 'MASKS=' + os.environ.get('MASKS', ''), file=stream)
(folder / 'iter_1.pth').touch()
(folder / 'last_checkpoint').write_text(str(folder / 'iter_1.pth'))
sys.exit(3 if Path(__file__).with_name('fail').exists() else 0)
"""
STAGES = """stages = [
    dict(name='maps', kind='train', config='method.py', options={'train_cfg.max_iters': 3, 'betas': [0.9, 1]}),
    dict(name='masks', kind='export', config='method.py', checkpoint='{maps}', arguments=['--steps', 'crf']),
    dict(name='segmentation', kind='train', config='method.py', env=dict(MASKS='{masks}/masks')),
]
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / 'tools'
    folder.mkdir()
    for name in module.KINDS.values():
        flag = '--out' if name == module.KINDS['export'] else '--work-dir'
        (folder / name).write_text(TOOL.format(flag=flag))
    monkeypatch.setattr(module, 'TOOLS', folder)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / 'method.py').write_text('lr = 1\n')
    path = tmp_path / 'stages.py'
    path.write_text(STAGES)
    return path


def build(config: Path) -> Pipeline:
    return Pipeline(load_stages(str(config)), str(config.parent / 'work'))


def run(config: Path, **which: str) -> list[str]:
    """Run what is to be done; the names of the stages that ran."""
    pipeline = build(config)
    stages = pipeline.chosen(**which)
    pipeline.run(stages, announce=lambda line: None)
    return [stage.name for stage in stages]


def calls(config: Path, stage: str) -> list[str]:
    return (config.parent / 'work' / stage / 'calls.txt').read_text().splitlines()


def test_stages_hand_over_their_folders(tools: Path, config: Path) -> None:
    assert run(config) == ['maps', 'masks', 'segmentation']
    work = config.parent / 'work'
    (maps,), (masks,), (segmentation,) = (calls(config, name) for name in ('maps', 'masks', 'segmentation'))
    assert maps.endswith('--cfg-options train_cfg.max_iters=3 betas=[0.9, 1] MASKS=')
    assert f'{config.parent}/method.py {work}/maps --out {work}/masks --steps crf' in masks
    assert segmentation.endswith(f'MASKS={work}/masks/masks')
    assert '--resume' not in maps + segmentation
    record = json.loads((work / RECORD).read_text())
    assert list(record['done']) == ['maps', 'masks', 'segmentation']
    assert sys.executable in record['done']['maps']['command']


def test_finished_stages_are_not_run_again(tools: Path, config: Path) -> None:
    run(config)
    assert run(config) == []
    assert len(calls(config, 'maps')) == 1


def test_an_interrupted_stage_goes_on_where_it_was(tools: Path, config: Path) -> None:
    (tools / 'fail').touch()
    with pytest.raises(UsageError, match='stage maps ended with status 3'):
        run(config)
    (tools / 'fail').unlink()
    assert run(config) == ['maps', 'masks', 'segmentation']
    first, second = calls(config, 'maps')
    assert '--resume' not in first
    assert '--resume' in second


def test_a_stage_that_is_run_again_starts_anew_and_keeps_the_old_folder(tools: Path, config: Path) -> None:
    run(config)
    assert run(config, first='masks') == ['masks', 'segmentation']
    assert len(calls(config, 'maps')) == 1
    for name in ('masks', 'segmentation'):
        assert len(calls(config, name)) == 1
        assert '--resume' not in calls(config, name)[0]
        assert len(list((config.parent / 'work').glob(f'{name}.*/calls.txt'))) == 1


def test_what_follows_a_stage_that_is_run_alone_is_not_done_any_more(tools: Path, config: Path) -> None:
    run(config)
    assert run(config, only='maps') == ['maps']
    assert run(config) == ['masks', 'segmentation']
    assert '--resume' not in calls(config, 'segmentation')[0]


def test_an_interrupted_stage_with_new_settings_starts_anew(tools: Path, config: Path) -> None:
    (tools / 'fail').touch()
    with pytest.raises(UsageError):
        run(config)
    (tools / 'fail').unlink()
    (config.parent / 'method.py').write_text('lr = 2\n')
    run(config)
    (call,) = calls(config, 'maps')
    assert '--resume' not in call


def test_other_settings_of_a_finished_stage_are_an_error(tools: Path, config: Path) -> None:
    run(config)
    (config.parent / 'method.py').write_text('lr = 2\n')
    with pytest.raises(UsageError, match=r'stage maps was done with other settings .* --from maps'):
        run(config)
    assert run(config, first='maps') == ['maps', 'masks', 'segmentation']


def test_a_stage_needs_those_before_it(tools: Path, config: Path) -> None:
    with pytest.raises(UsageError, match='stage maps comes before and is not done; start with --from maps'):
        run(config, only='masks')
    with pytest.raises(UsageError, match="no stage 'mask'; stages are maps, masks, segmentation"):
        run(config, first='mask')


def test_a_second_run_in_the_same_folder_is_refused(tools: Path, config: Path) -> None:
    pipeline = build(config)
    pipeline.work_dir.mkdir()
    with module.locked(pipeline.work_dir / f'.{RECORD}.lock'), pytest.raises(UsageError, match='in use by another run'):
        pipeline.run(pipeline.stages)
    assert not (pipeline.work_dir / 'maps').exists()


def test_a_broken_record_is_named(tools: Path, config: Path) -> None:
    pipeline = build(config)
    pipeline.work_dir.mkdir()
    (pipeline.work_dir / RECORD).write_text('{"done": ')
    with pytest.raises(UsageError, match=f'{RECORD} is no record of a pipeline'):
        pipeline.chosen()


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ("dict(name='a', kind='train')", 'stage 1 needs config'),
        ("dict(name='a', kind='tune', config='method.py')", 'kind has to be one of train, export, test'),
        ("dict(name='a', kind='test', config='method.py')", 'test needs a checkpoint'),
        ("dict(name='a', kind='train', config='other.py')", 'there is no config .*other.py'),
        ("dict(name='a', kind='train', config='method.py', checkpoints='x')", "no setting 'checkpoints'"),
        (
            "dict(name='a', kind='test', config='method.py', checkpoint='{b}')",
            'refers to {b}; earlier stages are work_dir',
        ),
        ("dict(name='work_dir', kind='train', config='method.py')", 'has the name'),
    ],
)
def test_mistakes_in_the_config_are_named_before_anything_runs(config: Path, entry: str, message: str) -> None:
    config.write_text(f'stages = [{entry}]\n')
    with pytest.raises(UsageError, match=message):
        load_stages(str(config))


def test_shipped_pipelines_and_configs_have_names(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / 'configs'
    by_path = load_stages(str(folder / 'pipelines' / 'vitpcm_voc12mini.py'))
    for name in ('vitpcm_voc12mini', 'pipelines/vitpcm_voc12mini'):
        assert load_stages(name) == by_path
    own = tmp_path / 'own.py'
    own.write_text("stages = [dict(name='a', kind='train', config='mmwsss::vitpcm_voc12mini.py')]\n")
    assert load_stages(str(own))[0].config == str(folder / 'vitpcm_voc12mini.py')
    with pytest.raises(UsageError, match=r'pipeline vitpcm_vox does not exist; shipped ones are .*vitpcm_voc12mini'):
        load_stages('vitpcm_vox')


def test_shipped_pipelines_fit_together() -> None:
    paths = sorted((Path(__file__).parents[2] / 'configs' / 'pipelines').glob('*.py'))
    assert paths
    for path in paths:
        stages = load_stages(str(path))
        assert [stage.kind for stage in stages].count('train') >= 1
        assert all(Pipeline(stages, 'work').shell_line(stage) for stage in stages)


def test_stages_may_say_their_own_number_of_gpus(tools: Path, config: Path) -> None:
    config.write_text(STAGES.replace("kind='export'", "kind='export', gpus=2"))
    stages = load_stages(str(config))
    commands = [Pipeline(stages, 'work', gpus=4).command(stage) for stage in stages]
    assert [command[2:4] for command in commands] == [
        ['4', 'train.py'],
        ['2', module.KINDS['export']],
        ['4', 'train.py'],
    ]
    assert all(Pipeline(stages, 'work').command(stage)[0] == sys.executable for stage in stages)
    config.write_text(STAGES.replace("kind='export'", "kind='export', gpus=0"))
    with pytest.raises(UsageError, match='stage 2: gpus has to be 1 or more, got 0'):
        load_stages(str(config))
