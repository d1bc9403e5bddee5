"""Head first, backbone later."""

from __future__ import annotations

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.optim import Optimizer

from mmwsss.registry import HOOKS


@HOOKS.register_module()
class TwoPhaseTrainHook(Hook):
    """Warm up everything but the backbone, then train all with a fresh optimizer state (ViT-PCM, sec. 4).

    In the warm-up the backbone keeps its gradients but gets learning rate 0, which leaves its weights exactly as they
    are and works under DistributedDataParallel, where switching ``requires_grad`` during a run does not. Learning rates
    are constant within a phase, so a parameter scheduler is an error.

    Args:
        warmup_iters: length of the warm-up in iterations; or
        warmup_epochs: its length in passes over the data (incomplete batches not counted).
        warmup_lr: learning rate of neck and head in the warm-up.
        lr: learning rate of everything afterwards; the optimizer's own by default.
        waiting: prefix of the parameters that wait.
        reset_optimizer: forget the optimizer's moments at the change, as the official code does.

    Raises:
        ValueError: both or neither length is given; no parameter matches ``waiting``; a scheduler is configured.
    """

    priority = 'HIGHEST'  # before the hook that notes the learning rates of an iteration for the log

    def __init__(
        self,
        warmup_iters: int | None = None,
        warmup_epochs: float | None = None,
        warmup_lr: float = 1e-3,
        lr: float | None = None,
        waiting: str = 'backbone.',
        reset_optimizer: bool = True,
    ) -> None:
        if (warmup_iters is None) == (warmup_epochs is None):
            raise ValueError('TwoPhaseTrainHook takes either warmup_iters or warmup_epochs')
        self.warmup_iters = warmup_iters
        self.warmup_epochs = warmup_epochs
        self.warmup_lr = warmup_lr
        self.lr = lr
        self.waiting = waiting
        self.reset_optimizer = reset_optimizer
        self._is_warm: bool | None = None

    def before_run(self, runner: Runner) -> None:
        """Split the optimizer's groups into waiting and training parameters, before a checkpoint is resumed."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # a test run leaves the config there, unbuilt
        if runner.param_schedulers:
            raise ValueError('TwoPhaseTrainHook sets constant learning rates; set param_scheduler=[]')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        optimizer = runner.optim_wrapper.optimizer
        split_param_groups(optimizer, model, self.waiting)
        self.lr = optimizer.defaults['lr'] if self.lr is None else self.lr

    def before_train(self, runner: Runner) -> None:
        """Turn a length in epochs into iterations."""
        if self.warmup_iters is None:
            loader = runner.train_dataloader
            epoch = len(loader.dataset) // (loader.batch_size * get_world_size())
            self.warmup_iters = round(self.warmup_epochs * max(epoch, 1))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the learning rates of the phase this iteration belongs to."""
        is_warm = runner.iter >= self.warmup_iters
        if is_warm == self._is_warm:
            return
        self._is_warm = is_warm
        optimizer = runner.optim_wrapper.optimizer
        if is_warm and self.reset_optimizer and 0 < runner.iter == self.warmup_iters:
            optimizer.state.clear()
        for group in optimizer.param_groups:
            group['lr'] = self.lr if is_warm else 0.0 if group['waiting'] else self.warmup_lr
        phase = f'all parameters at lr {self.lr:g}' if is_warm else f'neck and head at lr {self.warmup_lr:g}'
        print_log(f'Training {phase} from iteration {runner.iter}', logger='current')


def split_param_groups(optimizer: Optimizer, model: nn.Module, waiting: str) -> None:
    """Split each group of ``optimizer`` in place by whether a parameter's name in ``model`` starts with ``waiting``.

    Raises:
        ValueError: no trainable parameter matches.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        for waits in (False, True):  # the trained group first: its rate is the one the log shows
            chosen = [p for p in group['params'] if names[id(p)].startswith(waiting) == waits]
            if chosen:
                groups.append({**group, 'params': chosen, 'waiting': waits})
    if not any(group['waiting'] and any(p.requires_grad for p in group['params']) for group in groups):
        raise ValueError(f'no trainable parameter starts with {waiting!r}; set waiting to the prefix of the backbone')
    optimizer.param_groups[:] = groups
