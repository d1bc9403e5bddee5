"""CoSA ends alike whether the warm-up skips what is not trained yet or weighs it with zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosa_cases import SEARCHED, runner_config
from mmengine.runner import Runner
from resume_cases import assert_equal, state_of
from tiny_configs import write_data


def test_both_kinds_of_warm_up_end_alike(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """Dropout of the online network changes nothing, as every iteration draws from a seed of its own."""
    data_root = write_data(tmp_path_factory.mktemp('data'), 'ShapesDataset')
    for warmup in ('skip', 'zero'):
        cfg = runner_config(
            data_root,
            tmp_path / warmup,
            threshold=dict(SEARCHED, rows=10),
            aux_threshold=dict(SEARCHED, rows=10, high=0.6, low=0.3, start='empty', between_means=True),
            reliability=dict(type='ReliabilityWeights'),
            loss_csc=dict(type='SeparationLoss', epsilon=20.0),
            warmup=warmup,
            warmup_iters=1,
        )
        cfg.model.backbone.drop_rate = 0.2
        cfg.train_cfg.max_iters = 3
        Runner.from_cfg(cfg).train()
    first, second = (state_of(tmp_path / warmup, 3) for warmup in ('skip', 'zero'))
    weights = [{name: value for name, value in state.items() if 'logged' not in name} for state in (first, second)]
    assert_equal(*weights)
