"""Learning-rate schedules given in closed form."""

from __future__ import annotations

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from torch.optim import Optimizer

from mmwsss.registry import PARAM_SCHEDULERS


def warmup_poly(
    step: int,
    max_iters: int,
    warmup_iters: int = 1500,
    warmup_ratio: float = 1e-6,
    power: float = 0.9,
    min_mult: float = 0.0,
) -> float:
    """Factor on the learning rate in force during iteration ``step``, counted from 0 (CoSA, released code).

    Linear from ``warmup_ratio`` up to 1 in the first ``warmup_iters``, then (1 - step / max_iters) ** power with the
    absolute step, so the rate drops where the warm-up ends. ``min_mult`` bounds the second part only. From
    ``max_iters`` on the factor of the last iteration stays.
    """
    if step < warmup_iters:
        return 1 - (1 - step / warmup_iters) * (1 - warmup_ratio)
    return max((1 - min(step, max_iters - 1) / max_iters) ** power, min_mult)


@PARAM_SCHEDULERS.register_module()
class WarmupPolyLR(LRSchedulerMixin, _ParamScheduler):
    """Polynomial decay with a built-in linear warm-up, see :func:`warmup_poly` (CoSA, released code).

    Every rate is its group's first one times a factor that depends on the iteration alone, so resuming is exact.

    Args:
        optimizer: optimizer or its wrapper, with any number of parameter groups.
        max_iters: iterations until the rate would reach 0.
        warmup_iters: length of the warm-up in iterations.
        warmup_ratio: factor in the first iteration.
        power: exponent of the decay.
        min_mult: smallest factor after the warm-up.
        by_epoch: has to be False; mmengine's runner and hook read it.
        end: not used, ``max_iters`` says it all; mmengine's runner passes the length of the run.
        last_step, verbose: as in every scheduler of mmengine.

    Raises:
        ValueError: ``by_epoch`` is True, or ``max_iters`` or ``warmup_iters`` is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer | OptimWrapper,
        max_iters: int,
        warmup_iters: int = 1500,
        warmup_ratio: float = 1e-6,
        power: float = 0.9,
        min_mult: float = 0.0,
        by_epoch: bool = False,
        end: int = INF,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        if by_epoch:
            raise ValueError('WarmupPolyLR counts iterations; set by_epoch=False')
        if max_iters < 1 or warmup_iters < 0:
            raise ValueError(f'WarmupPolyLR: max_iters={max_iters} has to be >= 1, warmup_iters={warmup_iters} >= 0')
        self.max_iters = max_iters
        self.warmup_iters = warmup_iters
        self.warmup_ratio = warmup_ratio
        self.power = power
        self.min_mult = min_mult
        super().__init__(optimizer, by_epoch=False, last_step=last_step, verbose=verbose)

    def _get_value(self) -> list[float]:
        factor = warmup_poly(
            self.last_step, self.max_iters, self.warmup_iters, self.warmup_ratio, self.power, self.min_mult
        )
        return [base * factor for base in self.base_values]
