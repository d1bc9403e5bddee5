"""An interrupted and resumed run of CoSA with searched thresholds ends where the uninterrupted one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cosa_cases import SEARCHED, runner_config
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_configs import write_data

ROWS, BATCH = 10, 4  # the buffer wraps in the third iteration


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), 'ShapesDataset')


@pytest.fixture
def make_config(data_root: Path, tmp_path: Path):
    def make(name: str, **changes) -> Config:
        settings = dict(
            threshold=dict(SEARCHED, rows=ROWS),
            aux_threshold=dict(SEARCHED, rows=ROWS, high=0.6, low=0.3, start='empty', between_means=True),
            reliability=dict(type='ReliabilityWeights'),
            loss_csc=dict(type='SeparationLoss', epsilon=20.0),
            assignment_eval=False,
            warmup_iters=1,
        )
        cfg = runner_config(data_root, tmp_path / name, **{**settings, **changes})
        assert cfg.train_dataloader.batch_size == BATCH
        cfg.model.backbone.drop_rate = 0.2
        return cfg

    return make


def tensors(value: object, path: str = '') -> dict[str, torch.Tensor]:
    """Every tensor and number of a nested checkpoint by its path."""
    if isinstance(value, dict):
        return {k: v for key, child in value.items() for k, v in tensors(child, f'{path}/{key}').items()}
    if isinstance(value, list | tuple):
        return {k: v for key, child in enumerate(value) for k, v in tensors(child, f'{path}/{key}').items()}
    return {path: value if isinstance(value, torch.Tensor) else torch.tensor(float(value or 0))}


def state_of(folder: Path, iteration: int) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / f'iter_{iteration}.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == iteration
    return tensors({key: checkpoint[key] for key in ('state_dict', 'optimizer')})


def train(cfg: Config, iterations: int = 6, resume: Path | None = None) -> None:
    cfg.train_cfg.max_iters = iterations
    if resume is not None:
        cfg.update(resume=True, load_from=str(resume))
    Runner.from_cfg(cfg).train()


def test_resumed_equals_straight(make_config, tmp_path: Path) -> None:
    train(make_config('straight'))
    train(make_config('begun'), 3)
    train(make_config('resumed'), 6, tmp_path / 'begun' / 'iter_3.pth')
    middle, end = (state_of(tmp_path / 'straight', i) for i in (3, 6))
    for one, other in ((state_of(tmp_path / 'begun', 3), middle), (state_of(tmp_path / 'resumed', 6), end)):
        assert one.keys() == other.keys()
        assert not [name for name, value in one.items() if not torch.equal(value, other[name])]

    for name in ('threshold', 'aux_threshold'):
        pointers = [int(state[f'/state_dict/{name}.pointer']) for state in (middle, end)]
        assert pointers == [3 * BATCH % ROWS, 6 * BATCH % ROWS]
        assert end[f'/state_dict/{name}.queue'].shape == (ROWS, 16)
        assert float(end[f'/state_dict/{name}.filled']) == ROWS
    moved = [name for name in middle if name.startswith('/state_dict/') and not torch.equal(middle[name], end[name])]
    for part in ('threshold.queue', 'threshold.high', 'threshold.low', 'online.decode_head', 'assignment.decode_head'):
        assert any(part in name for name in moved), part
    assert {int(v) for name, v in end.items() if name.endswith('/step')} == {6}, 'Adam counts the warm-up, every weight'


def test_both_kinds_of_warm_up_end_alike(make_config, tmp_path: Path) -> None:
    """Dropout of the online network changes nothing, as every iteration draws from a seed of its own."""
    for warmup in ('skip', 'zero'):
        train(make_config(warmup, warmup=warmup, assignment_eval=True), 3)
    first, second = (state_of(tmp_path / warmup, 3) for warmup in ('skip', 'zero'))
    assert first.keys() == second.keys()
    assert not [name for name, value in first.items() if not torch.equal(value, second[name])]
