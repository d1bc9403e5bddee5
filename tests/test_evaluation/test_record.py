import hashlib
import json
import subprocess

import numpy as np
import pytest
import torch
from mmengine.config import Config

import mmwsss
from mmwsss.evaluation import protocol_from_scores, record, write_metrics_json


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text("model = dict(type='Tiny', depth=3)\n")
    return Config.fromfile(path)


def test_content(tmp_path, cfg):
    scores = {'seg_mIoU': np.float64(51.25), 'maps_mIoU+tags': torch.tensor(60.5), 'mAP': float('nan')}
    per_class = {'seg_IoU': {'cat': 40.0, 'dog': float('nan')}}
    path = write_metrics_json(tmp_path / 'new' / 'metrics.json', scores, cfg, 'last.pth', 7, per_class)
    found = json.loads(path.read_text())
    assert found['scores'] == {'seg_mIoU': 51.25, 'maps_mIoU+tags': 60.5, 'mAP': None}
    assert found['per_class'] == {'seg_IoU': {'cat': 40.0, 'dog': None}}
    assert found['protocol'] == 'single scale; image labels used for: maps'
    assert (found['checkpoint'], found['seed']) == ('last.pth', 7)
    assert found['config']['filename'] == cfg.filename
    cfg.dump(tmp_path / 'dumped.py')
    assert found['config']['sha256'] == hashlib.sha256((tmp_path / 'dumped.py').read_bytes()).hexdigest()
    assert found['versions']['mmwsss'] == mmwsss.__version__
    assert found['versions']['torch'] == torch.__version__
    assert {'python', 'numpy', 'mmengine', 'mmcv', 'mmseg', 'mmpretrain', 'cv2'} <= set(found['versions'])
    assert found['date'].endswith('+00:00')
    assert found['device'] == record.device_name()
    assert found['git'] is None or set(found['git']) == {'revision', 'dirty'}


def test_failed_write_leaves_the_old_file(tmp_path, cfg):
    path = write_metrics_json(tmp_path / 'metrics.json', {'mAP': 1.0}, cfg, None, None)
    before = path.read_text()
    with pytest.raises(TypeError):
        write_metrics_json(path, {'mAP': object()}, cfg, None, None)

    def broken_replace(source, target):
        raise OSError('disk full')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record.os, 'replace', broken_replace)
        with pytest.raises(OSError, match='disk full'):
            write_metrics_json(path, {'mAP': 2.0}, cfg, None, None)
    assert path.read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['metrics.json', 'tiny.py']


def test_device_is_the_one_that_was_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device=None: f'card {device}')
    assert record.device_name().startswith('card')
    assert record.device_name('cuda:1') == 'card cuda:1'
    assert record.circumstances(torch.device('cpu'))['device'].startswith('cpu (')
    assert record.device_name('meta') == 'meta'


def test_hash_of_settings_ignores_the_order(cfg):
    settings = {'a': (1, 2), 'b': dict(type=Config)}
    assert record.settings_sha256(settings) == record.settings_sha256({'b': dict(type=Config), 'a': [1, 2]})
    assert record.settings_sha256(settings) != record.settings_sha256({**settings, 'a': (2, 1)})


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['seg_mIoU', 'mAP'], 'nothing'),
        (['maps_mIoU+tags', 'maps_bg_best+tags', 'pseudo_mIoU+tags'], 'maps, pseudo'),
        (['test/pseudo_mIoU+tags'], 'pseudo'),
    ],
)
def test_protocol(names, expected):
    assert protocol_from_scores(dict.fromkeys(names, 1.0)) == f'single scale; image labels used for: {expected}'


def test_protocols_of_scores_are_mentioned():
    scores = dict.fromkeys(['test/ss_mIoU', 'ms+flip+crf+tags_mIoU', 'mAP'], 1.0)
    words = 'protocols: ss, ms+flip+crf+tags; image labels used for: ms+flip+crf+tags'
    assert protocol_from_scores(scores) == f'several scales; {words}'
    assert protocol_from_scores(scores, 'ms at scales 0.5, 1') == f'ms at scales 0.5, 1; {words}'
    assert protocol_from_scores({'ss_mIoU': 1.0}) == 'single scale; protocols: ss; image labels used for: nothing'


@pytest.mark.parametrize(
    ('settings', 'views', 'rest'),
    [
        (dict(views=None, bg_setting=0.3), 'single scale', ''),
        (dict(views=dict(scales=(1.0,), flip=True)), 'single scale with mirror images', ''),
        (dict(views=dict(scales=(1.0, 0.5))), 'scales 1, 0.5', ''),
        (
            dict(views=dict(scales=(1, 0.75), flip=True), stream='online', cam_head='aux_head'),
            'scales 1, 0.75 with mirror images',
            '; stream: online; maps of aux_head',
        ),
    ],
)
def test_views_and_networks_of_the_model_are_told(settings, views, rest):
    labels = 'image labels used for: maps'
    assert protocol_from_scores(['maps_mIoU+tags'], settings=settings) == f'{views}; {labels}{rest}'
    assert protocol_from_scores(['maps_mIoU+tags'], 'tta', settings) == f'tta; {labels}{rest}'
    own_views = protocol_from_scores(['ss_mIoU'], settings=settings)
    assert own_views == f'single scale; protocols: ss; image labels used for: nothing{rest}'


def test_git_revision(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ['-c', 'user.name=a', '-c', 'user.email=a@b.c']
        return subprocess.run(
            ['git', *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    package = tmp_path / 'mmwsss' / '__init__.py'
    package.parent.mkdir()
    package.touch()
    monkeypatch.setattr(mmwsss, '__file__', str(package))
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert record.git_revision() is None
    git('init')
    assert record.git_revision() is None  # a repository around it that does not track it
    git('add', '.')
    git('commit', '-m', 'start')
    revision = git('rev-parse', 'HEAD')
    assert record.git_revision() == {'revision': revision, 'dirty': False}
    package.write_text('changed = True\n')
    assert record.git_revision() == {'revision': revision, 'dirty': True}
