"""The command of the report, end to end on tiny networks."""

from __future__ import annotations

import json
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.apis.errors import UsageError
from mmwsss.evaluation.confusion import confusion_matrix, iou_from_confusion
from mmwsss.registry import MODELS
from mmwsss.reports.cli import main
from mmwsss.reports.collect import Run
from mmwsss.reports.evaluate import RecordHook, check_classes
from mmwsss.utils import progress

NAMES = ('vitpcm_shapes', 'fullysup_voc12mini')


@pytest.fixture(scope='module')
def written(tmp_path_factory) -> Path:
    """A work dir with config and checkpoint of each tiny network."""
    folder = tmp_path_factory.mktemp('report')
    for name in NAMES:
        kind = 'ShapesDataset' if 'shapes' in name else 'WeakVOCDataset'
        cfg = tiny_config(CONFIGS / f'{name}.py', write_data(folder, kind), folder / 'runs')
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmwsss'):
            model = MODELS.build(cfg.model)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        (folder / name).mkdir()
        cfg.dump(folder / name / f'{name}.py')
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / name / 'iter_2.pth')
        (folder / name / 'last_checkpoint').write_text(str(folder / name / 'iter_2.pth'))
    return folder


def copy_run(written, folder):
    return shutil.copytree(written / 'vitpcm_shapes', folder, ignore=shutil.ignore_patterns('report*'))


def data_of(path):
    page = path.read_text(encoding='utf-8')
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_checkpoint_is_run_once_and_scores_are_those_of_the_test(written, tmp_path, capsys):
    folder, out = written / 'vitpcm_shapes', tmp_path / 'page.html'
    main([str(folder), '--out', str(out)])
    record = json.loads((folder / 'report' / 'val' / 'evaluation.json').read_text())
    assert record['protocol'] == 'single scale; image labels used for: maps, pseudo'
    for kind, score in (('prediction', 'seg_mIoU'), ('pseudo', 'pseudo_mIoU+tags')):
        _, miou = iou_from_confusion(torch.tensor(record['confusion'][kind]))
        assert record['scores'][score] == pytest.approx(100 * float(miou), abs=0.006)
    assert set(record['curves']) == {'maps+tags', 'pseudo+tags'}
    data = data_of(out)
    assert all(
        set(image['runs'][0]['pictures']) == {'maps', 'pseudo', 'prediction'} for image in data['gallery']['images']
    )
    first = out.read_bytes()
    capsys.readouterr()
    main([str(folder), '--out', str(out)])
    assert 'evaluation of val read from' in capsys.readouterr().out
    assert out.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ['page.html']


def test_another_checkpoint_is_evaluated_again(written, tmp_path):
    folder = written / 'vitpcm_shapes'
    weights = torch.load(folder / 'iter_2.pth', weights_only=True)
    weights['state_dict'] = {name: value * 1.5 for name, value in weights['state_dict'].items()}
    torch.save(weights, tmp_path / 'other.pth')
    main([str(folder), '--checkpoint', str(tmp_path / 'other.pth'), '--out', str(tmp_path / 'page.html')])
    assert json.loads((folder / 'report' / 'val' / 'evaluation.json').read_text())['source'] == 'other.pth'


def test_another_list_of_images_is_evaluated_again(written, tmp_path, capsys):
    folder = written / 'vitpcm_shapes'
    main([str(folder), '--out', str(tmp_path / 'page.html')])
    ids = written / 'ShapesDataset' / 'ImageSets' / 'Segmentation' / 'val.txt'
    text = ids.read_text()
    ids.write_text(text.split()[0])
    capsys.readouterr()
    try:
        main([str(folder), '--out', str(tmp_path / 'page.html')])
    finally:
        ids.write_text(text)
    assert 'read from' not in capsys.readouterr().out
    assert len(json.loads((folder / 'report' / 'val' / 'evaluation.json').read_text())['images']) == 1


def test_network_without_maps(written):
    folder = written / 'fullysup_voc12mini'
    main([str(folder), '--images', '1'])
    page = folder / 'report.html'
    assert len(data_of(page)['gallery']['images']) == 1
    assert 'no maps and pseudo masks: iter_2.pth makes none' in page.read_text()
    assert 'no maps to put thresholds on' in page.read_text()


def test_stored_masks_alone(written, tmp_path, monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())  # as in a new process
    folder = written / 'fullysup_voc12mini'
    for truth in (written / 'WeakVOCDataset' / 'SegmentationClass').glob('*.png'):
        mask = np.array(Image.open(truth))
        Image.fromarray(np.where(mask == 255, 0, mask)).save(tmp_path / truth.name)
    main([str(folder), '--predictions', str(tmp_path), '--out', str(tmp_path / 'page.html')])
    assert json.loads((folder / 'report' / 'val' / 'evaluation.json').read_text())['scores'] == {'seg_mIoU': 100.0}


def test_stored_masks_need_no_checkpoint(written, tmp_path):
    folder, masks = written / 'vitpcm_shapes', tmp_path / 'masks'
    masks.mkdir()
    main([str(folder), '--out', str(tmp_path / 'a.html')])
    record = json.loads((folder / 'report' / 'val' / 'evaluation.json').read_text())
    total = 0
    for image in record['images']:
        mask = np.zeros(image['size'], dtype=np.uint8)
        mask[: image['size'][0] // 2] = 1
        Image.fromarray(mask).save(masks / f'{image["name"]}.png')
        (truth_path,) = written.rglob(f'SegmentationClass/{image["name"]}.png')
        truth = torch.from_numpy(np.array(Image.open(truth_path)).astype(np.int64))
        total = total + confusion_matrix(torch.from_numpy(mask.astype(np.int64)), truth, len(record['classes']), 255)
    main([str(folder), '--predictions', str(masks), '--out', str(tmp_path / 'b.html')])
    stored = json.loads((folder / 'report' / 'val' / 'evaluation.json').read_text())
    assert stored['confusion'] == {'prediction': total.tolist()}
    assert 'how they were made is not recorded' in (tmp_path / 'b.html').read_text()
    first = sorted(masks.iterdir())[0]
    Image.fromarray(np.full(np.array(Image.open(first)).shape, 255, dtype=np.uint8)).save(first)
    with pytest.raises(UsageError, match=rf'{first.name} holds 255..255, expected classes 0..6; masks with'):
        main([str(folder), '--predictions', str(masks), '--out', str(tmp_path / 'b.html')])
    first.unlink()
    with pytest.raises(UsageError, match='--predictions: 1 masks are missing, the first is'):
        main([str(folder), '--predictions', str(masks), '--out', str(tmp_path / 'b.html')])


def test_mistakes_come_before_work(written, tmp_path):
    folder = str(written / 'vitpcm_shapes')
    for arguments, message in (
        (['nowhere'], 'nowhere is no folder'),
        ([folder, '--images', '-1'], '--images has to be 0 or more, got -1'),
        ([folder, '--split', 'vall'], 'split vall is neither one of'),
        ([folder, '--predictions', 'a', 'b'], 'got 2 for 1'),
        ([folder, '--predictions', 'nowhere'], 'nowhere is no folder'),
        ([folder, '--out', str(tmp_path)], 'is a folder; name a file'),
        ([folder, '--config', 'nowhere.py'], 'nowhere.py does not exist'),
        ([folder, '--checkpoint', 'nowhere.pth'], 'nowhere.pth does not exist'),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            main(arguments)


def test_other_classes_are_refused_before_a_checkpoint_is_run(written, tmp_path, monkeypatch):
    folders = [str(written / name) for name in NAMES]
    monkeypatch.setattr('mmwsss.reports.cli.evaluate', lambda *_: pytest.fail('an evaluation was started'))
    with pytest.raises(UsageError, match=f'{NAMES[1]} and {NAMES[0]} have different classes; write a report for each'):
        main([*folders, '--out', str(tmp_path / 'page.html')])


def test_classes_are_those_of_the_scope_of_a_config():
    data = dict(type='CustomDataset', data_root='data', metainfo=dict(classes=('cat', 'dog')), pipeline=[])
    cfg = Config(dict(default_scope='mmpretrain', test_dataloader=dict(dataset=data)))
    check_classes([(Run('run', Path('run')), cfg)], 'test')


def test_config_of_another_version_is_one_line(written, tmp_path):
    for number, (part, others) in enumerate(
        (('model', []), ("val_dataloader['dataset']", []), ("val_dataloader['dataset']", [written / 'vitpcm_shapes']))
    ):
        folder = copy_run(written, tmp_path / str(number))
        (config,) = folder.glob('*.py')
        config.write_text(f"{config.read_text()}\n{part}['old'] = 1\n")
        message = (
            rf'{config} cannot be built by this version \(\w+ has no setting old\); name another config by --config'
        )
        with pytest.raises(UsageError, match=message):
            main([*map(str, others), str(folder)])


def test_console_shows_progress_and_warnings_alone(written, tmp_path, monkeypatch, capsys):
    folder = copy_run(written, tmp_path / 'run')
    (config,) = folder.glob('*.py')
    config.write_text(f"{config.read_text()}\nlog_level = 'INFO'\n")
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())  # those of tests before write elsewhere
    monkeypatch.setattr(progress, 'PLAIN_INTERVAL', 0.0)
    monkeypatch.setattr(RecordHook, 'before_test', lambda _, runner: runner.logger.warning('look here'))
    main([str(folder)])
    shown = capsys.readouterr()
    assert 'look here' in shown.out
    for part in ('System environment', 'Config:', 'Hooks will be executed', ' - INFO - '):
        assert part not in shown.out + shown.err
    total = len(json.loads((folder / 'report' / 'val' / 'evaluation.json').read_text())['images'])
    lines = [line for line in shown.err.splitlines() if line.startswith('run: iter_2.pth on val: ')]
    assert len(lines) == total
    assert f'run: evaluation of val written to {folder / "report" / "val"}' in shown.out.splitlines()


def test_run_without_a_checkpoint_is_told(written, tmp_path, capsys):
    (config,) = (written / 'vitpcm_shapes').glob('*.py')
    folder = tmp_path / 'failed'
    folder.mkdir()
    shutil.copy(config, folder)
    main([str(written / 'vitpcm_shapes'), str(folder), '--out', str(tmp_path / 'page.html')])
    *_, told, last = capsys.readouterr().out.splitlines()
    assert told == f'{folder}: no checkpoint (last_checkpoint), so no image was evaluated'
    assert last.startswith('report: ')
    main([str(folder), '--no-evaluation'])
    assert 'no checkpoint' not in capsys.readouterr().out


def test_nothing_is_run_on_request(written, tmp_path):
    (tmp_path / 'last_checkpoint').write_text('iter_2.pth')
    (tmp_path / 'iter_2.pth').write_text('no checkpoint')
    main([str(tmp_path), '--no-evaluation'])
    assert not (tmp_path / 'report').exists()
    assert f'python tools/report.py {tmp_path} --split val' in (tmp_path / 'report.html').read_text()
