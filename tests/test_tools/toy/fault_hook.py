"""Faults of a cluster at a chosen iteration, once in a work dir."""

import os
import signal
import time
from pathlib import Path

from mmengine.hooks import Hook

from mmwsss.registry import HOOKS


@HOOKS.register_module()
class FaultHook(Hook):
    """``kind``: ``kill`` this process, a process that loads its ``data``, or send the launcher, without one this
    process, a signal of this name; in iteration ``at``, counted from 1, of process ``rank``. Iterations take
    ``seconds`` from there on.
    """

    def __init__(self, kind, at=3, rank=0, seconds=0.1):
        self.kind, self.at, self.rank, self.seconds = kind, at, rank, seconds

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 < self.at:
            return
        time.sleep(self.seconds)
        done = Path(runner.work_dir, 'fault')
        if runner.rank != self.rank or done.exists():
            return
        done.touch()
        if self.kind == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == 'data':
            os.kill(runner.train_loop.dataloader_iterator._iterator._workers[0].pid, signal.SIGKILL)
        else:
            os.kill(os.getppid() if runner.distributed else os.getpid(), getattr(signal, self.kind))
