"""A real runner with a network of two layers and data of a few numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmwsss.utils import seeded

_NUMBER = itertools.count()


class Noise(Dataset):
    """Items that depend on their index and, like the weak datasets' augmentation, on their draw."""

    metainfo = {'classes': ('background', 'thing')}

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with seeded(*index.draw):
            return dict(x=torch.randn(4) + int(index), y=torch.tensor([float(index) % 2]))


class Net(BaseModel):
    """Backbone and head, with dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 1)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, y: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        self.seen.append(x)
        return dict(loss=(self.head(self.drop(self.backbone(x))) - y).square().mean())


@pytest.fixture
def make_runner(tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Build a runner with a fresh network, always the same one."""
    made = []

    def make(max_iters: int, num_workers: int = 0, sampler: dict | None = None, **settings) -> Runner:
        torch.manual_seed(1)
        model = Net()
        config = dict(
            model=model,
            work_dir=str(tmp_path / 'work'),
            experiment_name=f'engine_{next(_NUMBER)}',
            train_dataloader=dict(
                batch_size=2,
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
                sampler=sampler or dict(type='ResumableInfiniteSampler', shuffle=True),
                dataset=Noise(),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(type='ResumableIterBasedTrainLoop', max_iters=max_iters),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.05)),
            default_hooks=dict(
                logger=None,
                timer=None,
                param_scheduler=None,
                checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
                iteration_seed=dict(type='IterationSeedHook'),
            ),
            randomness=dict(seed=11),
            default_scope='mmwsss',
            log_level='ERROR',
        )
        made.append(Runner(**{**config, **settings}))
        return made[-1]

    yield make
    for runner in reversed(made):  # workers forked last hold the queues of the others
        workers = getattr(getattr(runner._train_loop, 'dataloader', None), '_iterator', None)
        if workers is not None:
            workers._shutdown_workers()


@pytest.fixture
def assert_same_state() -> Callable[[Runner, Runner], None]:
    """Weights and optimizer states of two runners are equal to the last bit."""

    def check(first: Runner, second: Runner) -> None:
        for name, value in first.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name]), name
        states = [runner.optim_wrapper.optimizer.state_dict() for runner in (first, second)]
        assert states[0]['param_groups'] == states[1]['param_groups']
        assert states[0]['state'].keys() == states[1]['state'].keys()
        for index, state in states[0]['state'].items():
            for key, value in state.items():
                assert torch.equal(value, states[1]['state'][index][key]), (index, key)

    return check
