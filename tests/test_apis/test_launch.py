from datetime import timedelta

import pytest
import torch
from mmengine.config import Config

from mmwsss.apis import launch
from mmwsss.apis.checkpoints import latest_checkpoint


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / 'small.py'
    file.write_text("model = dict(type='A')\ntrain_cfg = dict(max_iters=1)\n")
    return str(file)


def test_options_of_the_runner_need_not_stand_in_the_config(config_file):
    cfg = launch.load_config(config_file, {'randomness.seed': 5, 'model.depth': 3, 'sync_bn': 'torch'})
    assert (cfg.randomness.seed, cfg.model.depth, cfg.sync_bn) == (5, 3, 'torch')


def test_loaders_without_workers_lose_their_settings():
    cfg = launch.load_config('vitpcm_shapes', {'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 1})
    assert 'persistent_workers' not in cfg.train_dataloader
    assert cfg.val_dataloader.persistent_workers is True


def test_missing_base_is_named(tmp_path):
    (tmp_path / 'child.py').write_text("_base_ = './gone.py'\n")
    with pytest.raises(launch.UsageError, match=r'gone\.py'):
        launch.load_config(str(tmp_path / 'child.py'))


@pytest.mark.parametrize(
    ('work_dir_option', 'in_config', 'expected'),
    [('cli', 'cfg', 'cli'), (None, 'cfg', 'cfg'), (None, None, './work_dirs/small')],
)
def test_work_dir_order(config_file, work_dir_option, in_config, expected):
    parser = launch.Parser()
    launch.add_config_arguments(parser)
    launch.add_run_arguments(parser)
    arguments = [config_file]
    if work_dir_option:
        arguments += ['--work-dir', work_dir_option]
    if in_config:
        arguments += ['--cfg-options', f'work_dir={in_config}']
    assert launch.load_run_config(parser.parse_args(arguments)).work_dir == expected


@pytest.mark.parametrize(
    ('device', 'expected'),
    [
        ('cuda', {'type': 'AmpOptimWrapper', 'loss_scale': 'dynamic'}),
        ('cpu', {'type': 'BFloat16OptimWrapper'}),
        ('mps', {'type': 'BFloat16OptimWrapper'}),
    ],
)
def test_enable_amp(monkeypatch, device, expected):
    monkeypatch.setattr(launch, 'get_device', lambda: device)
    cfg = Config({'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD'}}})
    for _ in range(2):  # a second time changes nothing
        launch.enable_amp(cfg)
        assert cfg.optim_wrapper.to_dict() == {'optimizer': {'type': 'SGD'}, **expected}


def test_enable_amp_refuses_other_wrappers():
    with pytest.raises(launch.UsageError, match='MyWrapper'):
        launch.enable_amp(Config({'optim_wrapper': {'type': 'mmwsss.MyWrapper'}}))


def test_resume_without_checkpoint_keeps_load_from(tmp_path, capsys):
    cfg = Config({'work_dir': str(tmp_path), 'load_from': 'weights.pth'})
    launch.set_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (False, 'weights.pth')
    assert 'starts at iteration 0' in capsys.readouterr().err


def test_resume_from_named_checkpoint(tmp_path):
    torch.save(dict(meta={}, state_dict={}, message_hub={}, optimizer={}), tmp_path / 'a.pth')
    cfg = Config({'work_dir': 'unused', 'load_from': 'weights.pth'})
    launch.set_resume(cfg, str(tmp_path / 'a.pth'))
    assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'a.pth'))


def test_latest_checkpoint_survives_a_moved_folder(tmp_path):
    assert latest_checkpoint(str(tmp_path)) is None
    (tmp_path / 'last_checkpoint').write_text('/old/place/iter_3.pth')
    (tmp_path / 'iter_3.pth').touch()
    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_3.pth')


def test_mistakes_name_the_other_ranks(monkeypatch, capsys):
    def fail():
        raise launch.UsageError('nothing works')

    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit):
        launch.run_cli(fail)
    assert capsys.readouterr().err == 'error on rank 1: nothing works\n'
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(SystemExit) as stop:
        launch.run_cli(fail)
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: nothing works\n'


def with_save_best(save_best, **val_cfg):
    hooks = {'checkpoint': {'type': 'CheckpointHook', 'save_best': save_best}}
    cfg = Config({'model': {}, 'optim_wrapper': {'type': 'OptimWrapper'}, 'default_hooks': hooks})
    cfg.val_cfg = val_cfg or None
    return cfg


@pytest.mark.parametrize(
    ('save_best', 'val_cfg', 'message'),
    [
        ('best_stream/a', {}, r'save_best best_stream/a needs val_cfg\.type=TwoStreamValLoop'),
        (['a', 'best_stream/a'], {'type': 'ValLoop', 'select': 'a'}, r'best_stream/a needs val_cfg\.type=TwoS'),
        ('best_stream/a', {'type': 'TwoStreamValLoop'}, r'val_cfg\.select has no a, only pseudo_mIoU\+tags; add it'),
        (['best_stream/a', 'best_stream/b'], {'type': 'TwoStreamValLoop', 'select': ['c', 'a']}, 'no b, only c, a'),
    ],
)
def test_best_checkpoints_of_streams_that_are_not_scored(save_best, val_cfg, message):
    with pytest.raises(launch.UsageError, match=message) as caught:
        launch.check_training(with_save_best(save_best, **val_cfg))
    assert '\n' not in str(caught.value)


def test_best_checkpoints_that_validation_can_tell():
    launch.check_training(with_save_best('seg_mIoU', type='ValLoop'))
    launch.check_training(with_save_best('best_stream/pseudo_mIoU+tags', type='mmwsss.TwoStreamValLoop'))
    launch.check_training(with_save_best(['best_stream/a'], type='TwoStreamValLoop', select='a'))
    launch.check_training(with_save_best(None))


def test_pretrained_weights_are_looked_for(tmp_path):
    backbone = {'type': 'V', 'init_cfg': {'type': 'Pretrained', 'checkpoint': 'gone.pth'}}
    cfg = Config({'model': {'teachers': [{'backbone': backbone}]}, 'optim_wrapper': {'type': 'OptimWrapper'}})
    with pytest.raises(launch.UsageError, match=r'model\.teachers\.0\.backbone\.init_cfg\.checkpoint: gone\.pth'):
        launch.check_training(cfg)
    backbone['init_cfg']['checkpoint'] = str(tmp_path)
    (tmp_path / 'last_checkpoint').write_text('iter_1.pth')
    (tmp_path / 'iter_1.pth').touch()
    with pytest.raises(launch.UsageError, match=r'init_cfg\.checkpoint: \S+ is a folder; name a file'):
        launch.check_training(Config({'model': {'backbone': backbone}, 'optim_wrapper': {'type': 'OptimWrapper'}}))
    backbone['init_cfg']['checkpoint'] = 'https://example.org/weights.pth'
    launch.check_training(Config({'model': {'backbone': backbone}, 'optim_wrapper': {'type': 'OptimWrapper'}}))


def test_processes_on_a_cpu_wait_as_long_as_the_config_says(monkeypatch):
    seen = []
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setattr(launch.torch.distributed, 'init_process_group', lambda *_, **settings: seen.append(settings))
    for env_cfg in (dict(dist_cfg=dict(backend='nccl', timeout=7)), dict()):
        launch._distribute_on_cpu(Config({'launcher': 'pytorch', 'env_cfg': env_cfg}))
    assert seen == [dict(timeout=timedelta(seconds=7)), {}]
