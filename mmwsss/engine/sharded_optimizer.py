"""An optimizer whose state is shared out among processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.optim import ZeroRedundancyOptimizer
from torch import Tensor

from mmwsss.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class ShardedOptimizer(ZeroRedundancyOptimizer):
    """mmengine's wrapper of PyTorch's ``ZeroRedundancyOptimizer`` that hooks can treat as any optimizer.

    A hook may replace ``param_groups``, before the first step or a checkpoint is loaded, and clear ``state`` at any
    time (:class:`~mmwsss.engine.hooks.TwoPhaseTrainHook` does both), which the parent would not notice.

    Args:
        params: parameters or groups of them.
        optimizer_type: name of a class of ``torch.optim``.
        kwargs: settings of that class.

    Raises:
        RuntimeError: groups were replaced after the first step.
    """

    @property
    def state(self) -> dict[Tensor, Any]:
        """State of the weights that this process updates."""
        return self.optim.state

    @state.setter
    def state(self, value: dict[Tensor, Any]) -> None:
        """Nothing to do: the optimizer of the shard holds the state, and the parent fills it in."""

    def step(self, closure: Callable[[], float] | None = None, **kwargs: Any) -> float | None:
        """Update the weights of this process and exchange them."""
        self._follow_groups()
        self._all_state_dicts = []
        return super().step(closure, **kwargs)

    def gather_state(self) -> None:
        """Bring the state of all processes to the first one; to be called by all, right before that one saves it."""
        self._follow_groups()
        self.consolidate_state_dict()

    def state_dict(self) -> dict[str, Any]:
        """State of all weights in the form of the optimizer alone, in the first process after :meth:`gather_state`.

        Raises:
            RuntimeError: nothing was gathered here since the last step. The parent would wait for the other processes
                instead, and mmengine's runner lets the first one save alone.
        """
        if not self._all_state_dicts:
            raise RuntimeError(
                'ShardedOptimizer: the state of all processes is only in the first one and only after gather_state(), '
                "which all have to call; mmwsss's CheckpointHook does it"
            )
        state = super(ZeroRedundancyOptimizer, self).state_dict()
        self._all_state_dicts = []
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the part of this process from a state of all weights, sharded or not."""
        self._follow_groups()
        super().load_state_dict(state_dict)
        del self.__dict__['state']  # a second copy, which the parent leaves there unused

    def _follow_groups(self) -> None:
        """Share out anew where the groups are no longer those that were shared out."""
        parts = self._partition_parameters()
        shared = [sum(len(part[index]['params']) for part in parts) for index in range(len(parts[self.rank]))]
        if shared == [len(group['params']) for group in self.param_groups]:
            return
        if self.state:
            raise RuntimeError('ShardedOptimizer: groups of parameters cannot be replaced after the first step')
        self._clear_cache()
        self._init_local_optimizer()
