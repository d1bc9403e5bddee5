"""The report on a pooling, end to end on tiny networks."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from PIL import Image
from tiny_configs import CONFIGS, tiny_config, write_data

from mmwsss.apis import launch
from mmwsss.registry import DATASETS, MODELS

NAMES = ('apc_voc', 'cosa_shapes', 'cam_voc12mini', 'fullysup_voc12mini')


@pytest.fixture(scope='module')
def written(tmp_path_factory) -> Path:
    """Folder with the config of several tiny networks, and a work dir with a checkpoint of each."""
    folder = tmp_path_factory.mktemp('pooling')
    for name in NAMES:
        kind = 'ShapesDataset' if 'shapes' in name else 'WeakVOCDataset'
        cfg = tiny_config(CONFIGS / f'{name}.py', write_data(folder, kind), folder / 'runs')
        cfg.custom_hooks = []
        if name == 'cosa_shapes':
            cfg.model.head.update(pool='maps', pooling=dict(type='AdaptiveKPooling'))
        cfg.dump(folder / f'{name}.py')
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmwsss'):
            model = MODELS.build(cfg.model)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        (folder / name).mkdir()
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / name / 'iter_2.pth')
        (folder / name / 'last_checkpoint').write_text(str(folder / name / 'iter_2.pth'))
    return folder


@pytest.fixture
def report(load_tool, monkeypatch, capsys, written):
    """Run the tool on a network in this process; returns what it printed and the lines of counts.csv."""

    def run(name: str, *arguments, out: Path | None = None) -> tuple[str, list[dict[str, str]]]:
        more = [] if out is None else ['--out', out]
        command = ['pooling_report.py', written / f'{name}.py', written / name, *more, *arguments]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        load_tool('analysis_tools/pooling_report').main()
        with open((out or written / name / 'pooling_report') / 'counts.csv', encoding='utf-8') as stream:
            return capsys.readouterr().out, list(csv.DictReader(stream))

    return run


@torch.no_grad()
def by_hand(written: Path, name: str) -> list[tuple]:
    """Lines of counts.csv for the validation images, from the pooling's own selection."""
    cfg = Config.fromfile(written / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmwsss'):
        model, dataset = MODELS.build(cfg.model).eval(), DATASETS.build(cfg.val_dataloader.dataset)
    model.load_state_dict(torch.load(written / name / 'iter_2.pth', weights_only=True)['state_dict'])
    classes, lines = dataset.metainfo['classes'], []
    for index in range(len(dataset)):
        batch = model.data_preprocessor(pseudo_collate([dataset[index]]), False)
        (sample,) = batch['data_samples']
        scores = model.head.pooled_maps(model.extract_feat(batch['inputs']))
        chosen = model.head.pooling.selection(scores)[0]
        truth = sample.gt_sem_seg.data[0]
        labels = [label + 1 for label in sample.image_labels.nonzero().flatten().tolist()]
        with_background = scores.shape[1] == len(classes)
        for label in [0] * with_background + labels:
            channel = label if with_background else label - 1
            taken = scores[0, channel][chosen[channel]]
            (rows, columns), (height, width) = chosen[channel].nonzero().T, chosen.shape[1:]
            # Patch r covers H / h rows of the mask from r * H / h on.
            under = truth[
                (2 * rows + 1) * truth.shape[0] // (2 * height), (2 * columns + 1) * truth.shape[1] // (2 * width)
            ]
            known = under[under != 255]
            share = (known == label).float().mean().item() if len(known) else None
            lines.append((sample.img_id, classes[label], len(taken), taken.max().item(), taken.min().item(), share))
    return lines


@pytest.mark.parametrize('name', ['apc_voc', 'cosa_shapes'])
def test_counts_agree_with_the_selection(report, written, name):
    printed, rows = report(name)
    expected = by_hand(written, name)
    assert [(row['image'], row['class'], int(row['K'])) for row in rows] == [line[:3] for line in expected]
    assert ('background' in {row['class'] for row in rows}) == (name == 'apc_voc')
    for row, line in zip(rows, expected):
        assert float(row['best_score']) == pytest.approx(line[3], rel=1e-4)
        assert float(row['kth_score']) == pytest.approx(line[4], rel=1e-4)
        assert (float(row['on_class']) if row['on_class'] else None) == pytest.approx(line[5], abs=1e-4)
    out = written / name / 'pooling_report'
    record = json.loads((out / 'report.json').read_text())
    pictures = {
        image: {row['class']: int(row['K']) for row in rows if row['image'] == image} for image in record['pictures']
    }
    assert record['pictures'] == pictures
    assert len(pictures) == 2
    assert sorted(path.stem for path in (out / 'images').iterdir()) == sorted(pictures)
    foreground = [int(row['K']) for row in rows if row['class'] != 'background']
    assert record['summary'][0]['mean'] == pytest.approx(np.mean(foreground))
    assert f'{np.mean(foreground):.2f}' in next(line for line in printed.splitlines() if 'all foreground' in line)
    assert record['pooling'].startswith('AdaptiveKPooling(')
    assert record['checkpoint'].endswith('iter_2.pth')
    assert Image.open(out / 'histogram.png').size[0] > 300


def test_part_of_the_training_images(report, written, tmp_path):
    arguments = [
        '--split',
        'train',
        '--limit',
        '3',
        '--num-images',
        '1',
        '--cfg-options',
        'model.head.pooling.rule=max',
    ]
    _, rows = report('apc_voc', *arguments, out=tmp_path)
    assert {row['image'] for row in rows} == {'train_0', 'train_1', 'train_2'}
    assert {row['K'] for row in rows} == {'1'}
    assert [path.name for path in (tmp_path / 'images').iterdir()] == ['train_0.png']
    assert json.loads((tmp_path / 'report.json').read_text())['num_images'] == 3


def test_without_masks_the_share_is_empty(report, tmp_path):
    (tmp_path / 'labels.json').write_text(json.dumps({'val_0': ['cat', 'dog'], 'val_1': ['cow']}))
    dataset = 'val_dataloader.dataset'
    source = [f'{dataset}.label_source.type=FileLabels', f'{dataset}.label_source.path={tmp_path / "labels.json"}']
    options = ['--cfg-options', f'{dataset}.data_prefix.seg_map_path=None', *source]
    printed, rows = report('apc_voc', *options, out=tmp_path / 'out')
    assert [row['class'] for row in rows] == ['background', 'cat', 'dog', 'background', 'cow']
    assert {row['on_class'] for row in rows} == {''}
    assert next(line for line in printed.splitlines() if 'background' in line).split()[-2] == '-'


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('cam_voc12mini', [], r"cam_voc12mini\.py: this CAMHead pools features, .* set pool='maps'"),
        ('fullysup_voc12mini', [], 'EncoderDecoder has no head that pools patch scores; use a weak segmentor'),
        ('apc_voc', ['--split', 'gone.txt'], r'split gone\.txt is neither'),
        ('apc_voc', ['--limit', '0'], '--limit has to be 1 or more, got 0'),
        ('apc_voc', ['--num-images', '-1'], '--num-images has to be 0 or more, got -1'),
        ('apc_voc', ['--cfg-options', 'val_dataloader.dataset.label_source=None'], 'carries no image_labels'),
        ('apc_voc', ['--cfg-options', 'model.head.pooling.tau=2'], 'tau has to lie between 0 and 1'),
    ],
)
def test_what_cannot_be_shown(report, tmp_path, monkeypatch, name, arguments, message):
    if not arguments:
        monkeypatch.setattr(torch, 'load', lambda *_, **__: pytest.fail('read the weights before the check'))
    with pytest.raises(launch.UsageError, match=message):
        report(name, *arguments, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
