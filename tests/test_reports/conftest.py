"""Runs as a report finds them, made without any training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmwsss.reports.collect import Run, collect_runs
from mmwsss.reports.recording import Recorder

CLASSES = ['background', '<b>cat & "dog"', 'bird', "it's"]
PALETTE = [(0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200)]
SIZE = (24, 36)


def square(label: int, side: int = 12) -> np.ndarray:
    """Mask (24, 36) with a square of ``label`` in the corner."""
    mask = np.zeros(SIZE, dtype=np.int64)
    mask[:side, :side] = label
    return mask


@pytest.fixture
def make_work_dir(tmp_path: Path) -> Callable[[str], Path]:
    """Write a work dir: config, log, one record of a test, one sweep, and no checkpoint."""

    def make(name: str, loss: float = 1.0) -> Path:
        folder = tmp_path / name
        log = folder / '20260101_000000' / 'vis_data'
        log.mkdir(parents=True)
        (log / 'config.py').write_text('model = dict()\n')
        lines = [{'lr': 0.1, 'loss': loss / step, 'time': 0.5, 'iter': step, 'step': step} for step in (10, 20, 30)]
        lines.append({'seg_mIoU': 41.5, 'pseudo_mIoU+tags': 51.0, 'time': 0.1, 'step': 30})
        (log / 'scalars.json').write_text('\n'.join(json.dumps(line) for line in lines) + '\n')
        scores = {'ss_mIoU': 40.25, 'ms+flip+crf+tags_mIoU': 60.5}
        record = {'scores': scores, 'protocol': 'ms at scales 0.5 & 1', 'per_class': {}}
        tested = folder / '20260102_000000'
        tested.mkdir()
        (tested / 'metrics.json').write_text(json.dumps(record))
        curve = {'background_channel': False, 'settings': [0.1, 0.2], 'mIoU': [30.0, 35.0]}
        (folder / 'sweep').mkdir()
        (folder / 'sweep' / 'sweep.json').write_text(json.dumps({'curves': {'maps+tags': curve}}))
        return folder

    return make


@pytest.fixture
def evaluated(make_work_dir: Callable[[str], Path]) -> Callable[..., list[Run]]:
    """Runs of these names, with six images each; ``shift`` makes the predictions of later runs worse."""

    def make(*names: str) -> list[Run]:
        runs = collect_runs([str(make_work_dir(name)) for name in names])
        for shift, run in enumerate(runs):
            recorder = Recorder(run.folder / 'report' / 'val', CLASSES, PALETTE)
            rng = np.random.default_rng(0)
            for index in range(6):
                label = 1 + index % 3
                truth, image = square(label), rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
                truth[12:14] = 255
                # The squares of later images are found less and less.
                found = square(label, max(1, 12 - 2 * index - shift))
                maps = np.stack([(found == c) * 0.8 for c in (1, 2, 3)])
                recorder.add(f'img_{index}<x>', image, truth, maps, pseudo=square(label, 11), prediction=found)
            curve = {'settings': [0.1, 0.4, 1.6], 'mIoU': [50.0, 60.0 + shift, 55.0], 'background_channel': True}
            run.evaluation = recorder.finish(
                key={}, split='val', scores={'seg_mIoU': 50.0 + shift, 'maps_bg_best+tags': 0.4},
                per_class={'seg_IoU': dict(zip(CLASSES, (90.0, 20.0 + shift, None, 70.0)))},
                curves={'maps+tags': curve}, settings={'maps': 0.1}, protocol='single scale', source='iter_30.pth',
            )  # fmt: skip
        return runs

    return make
