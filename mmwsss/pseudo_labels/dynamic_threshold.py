"""Thresholds between background and foreground that stay or that follow the maps through training (CoSA)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine.dist import all_gather, broadcast
from torch import Tensor, nn

from mmwsss.ops import RESIZERS
from mmwsss.registry import MODELS

from .searched import search_thresholds, widest_float


def write_rows_(queue: Tensor, rows: Tensor, pointer: Tensor) -> Tensor:
    """Write ``rows`` (N, L) over the oldest rows of the ring buffer ``queue`` (R, L), N at most R, in place.

    Args:
        pointer: () int64, the row to write next; after the last row comes the first.

    Returns:
        () int64, the pointer afterwards.
    """
    index = (pointer + torch.arange(len(rows), device=queue.device)) % len(queue)
    queue.index_copy_(0, index, rows.to(queue))
    return (pointer + len(rows)) % len(queue)


def smooth(old: Tensor, new: Tensor, decay: float) -> Tensor:
    """Moving average ``decay * old + (1 - decay) * new``, any shape."""
    return decay * old + (1 - decay) * new


def best_scores(maps: Tensor, cell: int) -> Tensor:
    """Best class (B, L) float32 of each of the L = (H // cell) * (W // cell) cells of ``maps`` (B, P, H, W)."""
    height, width = maps.shape[-2:]
    return RESIZERS['half_pixel'](maps.float(), (height // cell, width // cell)).amax(dim=1).flatten(1)


@MODELS.register_module()
class FixedThreshold(nn.Module):
    """The thresholds of the config (CoSA, the released settings).

    Args:
        high: foreground above this score.
        low: background at and below this score; between them pixels are ignored.

    Raises:
        ValueError: numbers outside [0, 1], or ``low`` above ``high``.
    """

    learns = False  # whether a call changes the module

    def __init__(self, high: float, low: float) -> None:
        super().__init__()
        _check_thresholds(self, high, low)
        self.register_buffer('high', torch.tensor(float(high)), persistent=False)
        self.register_buffer('low', torch.tensor(float(low)), persistent=False)

    def forward(self, maps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(high, low), each () float32; ``maps`` change nothing."""
        return self.high, self.low


@MODELS.register_module()
class SearchedThreshold(nn.Module):
    """Thresholds that follow the distribution of the best scores of recent images (CoSA, dynamic threshold).

    Every call writes the best scores of its images into a ring buffer, searches thresholds t* among all scores in it
    (:func:`~mmwsss.pseudo_labels.search_thresholds`) and moves the thresholds, t <- decay * t + (1 - decay) * t*. Where
    nothing can be found they stay. The search is not limited to a range, and its low threshold can come out above the
    high one unless ``between_means``. All state lies in buffers, so that a run resumes where it was; the device is
    waited for a few times in each call.

    With two components one threshold is searched, which is both the high and the low one, and there is no ignored band
    between them. As described in the paper; not part of the released code.

    Args:
        high, low: thresholds to start from; equal with two components.
        rows: images in the buffer; the released code takes 100 times the batch of one process.
        size: training crop, side or (height, width) in pixels.
        cell: side in pixels of the cells to which the maps are reduced.
        components: 3, or 2 for one threshold.
        floor: scores at or below do not take part.
        decay: share of the old thresholds that stays.
        start: 'noise' fills the buffer with uniform noise before training, as the released code does; 'empty' searches
            among the images seen so far only.
        gather: let the images of all processes into the buffer of each, in the order of their ranks; all start from the
            noise of the first. All processes then hold the same state, and the checkpoint of the first restores that of
            all. Otherwise, as in the released code, each process has thresholds of its own and resumes with those of
            the first. Every process must bring equally many images, as with a data loader that drops the last
            incomplete batch.
        between_means, tolerance, max_iterations, regularisation: see
            :func:`~mmwsss.pseudo_labels.search_thresholds` and :func:`~mmwsss.pseudo_labels.fit_gaussian_mixture`.

    Attributes:
        last_search: (2,) thresholds (low*, high*) of the last call before smoothing, None where nothing was found.

    Raises:
        ValueError: a setting out of its range, or two thresholds for two components.
    """

    learns = True

    def __init__(
        self,
        high: float,
        low: float,
        rows: int,
        size: int | tuple[int, int],
        cell: int = 16,
        components: int = 3,
        floor: float = 0.05,
        decay: float = 0.99,
        start: str = 'noise',
        gather: bool = False,
        between_means: bool = False,
        tolerance: float = 1e-3,
        max_iterations: int = 100,
        regularisation: float = 1e-6,
    ) -> None:
        super().__init__()
        _check_thresholds(self, high, low)
        if components not in (2, 3):
            raise ValueError(f'components of SearchedThreshold is {components!r}; expected 2 (one threshold) or 3')
        if components == 2 and high != low:
            raise ValueError(
                f'SearchedThreshold has one threshold with components=2; set high={high} and low={low} to one value'
            )
        if not 0 <= decay <= 1:
            raise ValueError(f'decay of SearchedThreshold is {decay}; expected 0 to 1')
        if start not in ('noise', 'empty'):
            raise ValueError(f"start of SearchedThreshold is {start!r}; expected 'noise' or 'empty'")
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        columns = (self.size[0] // cell) * (self.size[1] // cell)
        if rows < 1 or columns < 1:
            raise ValueError(
                f'SearchedThreshold has rows={rows}, size={self.size} and cell={cell}; expected at least one row, and '
                'cells that fit into the size'
            )
        self.cell = cell
        self.components = components
        self.floor = floor
        self.decay = decay
        self.gather = gather
        self.settings = dict(
            between_means=between_means,
            tolerance=tolerance,
            max_iterations=max_iterations,
            regularisation=regularisation,
        )
        self.last_search: Tensor | None = None
        self.is_shared = not gather  # whether the processes start from one buffer, whatever their seeds
        is_noise = start == 'noise'
        self.register_buffer('queue', _noise(rows, columns) if is_noise else torch.zeros(rows, columns))
        self.register_buffer('pointer', torch.tensor(0))
        self.register_buffer('filled', torch.tensor(rows if is_noise else 0))
        self.register_buffer('high', torch.tensor(high, dtype=torch.float64))
        self.register_buffer('low', torch.tensor(low, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SearchedThreshold:
        if widest_float(fn(torch.empty(0)).device) != torch.float64:
            self.high, self.low = self.high.float(), self.low.float()
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the scores of a batch and return the thresholds afterwards.

        Args:
            maps: (B, P, H, W) in [0, 1], normalised maps of the present classes; channels of absent ones are 0.

        Returns:
            (high, low), each () float32 on the module's device.

        Raises:
            ValueError: maps of another size than ``size``, or more of them than ``rows``.
        """
        if tuple(maps.shape[-2:]) != self.size:
            raise ValueError(
                f'SearchedThreshold is made for maps of {self.size}, got {tuple(maps.shape[-2:])}; '
                'set model.threshold.size and model.aux_threshold.size to the training crop'
            )
        self.write(best_scores(maps, self.cell))
        self.search()
        return self.high.to(torch.float32, copy=True), self.low.to(torch.float32, copy=True)

    def write(self, scores: Tensor) -> None:
        """Put the best scores (B, L) of a batch, or with ``gather`` of the batches of all processes, in the buffer."""
        if not self.is_shared:
            broadcast(self.queue)
            self.is_shared = True
        if self.gather:
            scores = torch.cat(all_gather(scores))
        if len(scores) > len(self.queue):
            raise ValueError(
                f'SearchedThreshold has rows={len(self.queue)} for {len(scores)} images of one step; set rows higher'
            )
        self.pointer.copy_(write_rows_(self.queue, scores, self.pointer))
        self.filled.copy_((self.filled + len(scores)).clamp(max=len(self.queue)))

    def search(self) -> None:
        """Move the thresholds towards those found in the buffer."""
        is_unused = torch.arange(len(self.queue), device=self.queue.device) >= self.filled
        scores = self.queue.masked_fill(is_unused[:, None], -torch.inf)
        found = search_thresholds(scores, self.components, self.floor, **self.settings)
        self.last_search = None if found is None else torch.stack((found[0], found[-1]))
        if found is not None:
            self.low.copy_(smooth(self.low, found[0], self.decay))
            self.high.copy_(smooth(self.high, found[-1], self.decay))


def _noise(rows: int, columns: int) -> Tensor:
    """Uniform noise (rows, columns) from one draw of torch's generator, whatever the number of values."""
    generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
    return torch.rand(rows, columns, generator=generator)


def _check_thresholds(owner: nn.Module, high: float, low: float) -> None:
    if not 0 <= low <= high <= 1:
        raise ValueError(f'{type(owner).__name__} has high={high} and low={low}; expected 0 <= low <= high <= 1')
