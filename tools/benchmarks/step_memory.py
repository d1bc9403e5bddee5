"""Memory of tensors during a piece of work."""

from __future__ import annotations

from collections.abc import Callable

import torch


def peak_of(work: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors that ``work`` had at a time on ``device``, above what was there before.

    On the CPU every tensor that torch allocates or frees is counted; the resident size of the process says little, as
    the allocator keeps what is freed. Scratch space inside of operators is not seen there.
    """
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = (event for event in profile.profiler.kineto_results.events() if event.name() == '[memory]')
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def state_bytes(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, buffers, gradients and what the optimizer keeps; each counted once."""
    tensors = [*module.parameters(), *module.buffers()]
    tensors += [weight.grad for weight in module.parameters() if weight.grad is not None]
    tensors += [
        value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
    ]  # fmt: skip
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())
