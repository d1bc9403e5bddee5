"""Inference on several scales and flips: few large batches in, one fused result out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FLIP_RULES = ('sum', 'mean', 'max')
SCALE_RULES = ('sum', 'mean', 'max', 'last')
RELU = (None, 'before', 'after')

half_pixel = partial(F.interpolate, mode='bilinear', align_corners=False)


@dataclass(frozen=True)
class FusionRule:
    """How one output of a network becomes one over all views.

    Args:
        flips: 'sum', 'mean' or 'max' over an image and its flip.
        scales: 'sum', 'mean' or 'max' over the scales, or 'last' for the last scale alone, which is what official CoSA
            does with its auxiliary maps.
        relu: rectify each view 'before' the flips are fused, the fused flips of each scale 'after', or None.
    """

    flips: str = 'mean'
    scales: str = 'mean'
    relu: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (('flips', FLIP_RULES), ('scales', SCALE_RULES), ('relu', RELU)):
            if getattr(self, name) not in allowed:
                raise ValueError(f'FusionRule.{name} has to be one of {allowed}, got {getattr(self, name)!r}')


class Fusion:
    """Running fusion of one output over scales, so that never more than one scale is held at full size.

    Args:
        rule: see :class:`FusionRule`.
        size: (H, W) that maps are resized to; None keeps the size of the first scale. Vectors have none.
        resize: function of (maps, size).
    """

    def __init__(
        self,
        rule: FusionRule,
        size: tuple[int, int] | None = None,
        resize: Callable[[Tensor, tuple[int, int]], Tensor] = half_pixel,
    ) -> None:
        self.rule, self.size, self.resize = rule, size, resize
        self._total: Tensor | None = None
        self._count = 0

    def add(self, output: Tensor) -> None:
        """Take in one scale: maps (F, B, C, h, w) or vectors (F, B, K) of its F flips, already flipped back."""
        is_map = output.ndim == 5
        if is_map and self.size is None:
            self.size = tuple(output.shape[-2:])
        output = output.float()
        if is_map and not (self.rule.relu is None and self.rule.flips in ('sum', 'mean')):
            output = self._resized(output)
        if self.rule.relu == 'before':
            output = output.relu()
        fused = _reduce_flips(output, self.rule.flips)
        if self.rule.relu == 'after':
            fused = fused.relu()
        if is_map:
            fused = self._resized(fused)  # linear rules commute with resizing, so that half of it is saved
        self._count += 1
        if self._total is None or self.rule.scales == 'last':
            self._total = fused
        elif self.rule.scales == 'max':
            self._total = torch.maximum(self._total, fused)
        else:
            self._total = self._total + fused

    def result(self) -> Tensor:
        """Maps (B, C, H, W) or vectors (B, K) over all scales.

        Raises:
            ValueError: nothing was added.
        """
        if self._total is None:
            raise ValueError('no view was added; give at least one scale')
        return self._total / self._count if self.rule.scales == 'mean' else self._total

    def _resized(self, maps: Tensor) -> Tensor:
        if tuple(maps.shape[-2:]) == tuple(self.size):
            return maps
        flat = maps.reshape(-1, *maps.shape[-3:])
        return self.resize(flat, tuple(self.size)).reshape(*maps.shape[:-2], *self.size)


def multi_view(
    network: Callable[[Tensor], Any],
    images: Tensor,
    scales: Sequence[float],
    rules: FusionRule | Mapping[Any, FusionRule],
    size: tuple[int, int] | None = None,
    *,
    flip: bool | Sequence[bool] = True,
    resize: Callable[[Tensor, tuple[int, int]], Tensor] = half_pixel,
    rescale: Callable[[Tensor, float], Tensor] | None = None,
    max_batch: int | None = None,
) -> Any:
    """Run ``network`` on every view of ``images`` and fuse the outputs.

    Args:
        network: see :func:`iter_views`; so are ``scales``, ``flip``, ``rescale`` and ``max_batch``.
        images: (B, 3, H, W).
        rules: one rule for all outputs, or a mapping by the name (of a dict) or position (of a tuple) of an output;
            outputs that are not in it are dropped.
        size: (H, W) of the fused maps, by default that of ``images``.
        resize: function of (maps, size) that brings maps to ``size``; bilinear with half-pixel centres by default.

    Returns:
        What ``network`` returns, a tensor, or a dict by name or position, float32: maps (B, C, H, W), vectors (B, K).

    Raises:
        ValueError: no scale, or a rule for an output that the network does not have.
    """
    size = tuple(images.shape[-2:]) if size is None else tuple(size)
    fusions: dict[Any, Fusion] = {}
    single = False
    for _, outputs in iter_views(network, images, scales, flip=flip, rescale=rescale, max_batch=max_batch):
        single = isinstance(outputs, Tensor)
        outputs = named(outputs)
        wanted = rules if isinstance(rules, Mapping) else dict.fromkeys(outputs, rules)
        if missing := [key for key in wanted if key not in outputs]:
            raise ValueError(f'no output {missing[0]!r} to fuse; the network returns {", ".join(map(repr, outputs))}')
        for key, rule in wanted.items():
            fusions.setdefault(key, Fusion(rule, size, resize)).add(outputs[key])
    if not fusions:
        raise ValueError('no view to fuse; give at least one scale and one rule')
    fused = {key: fusion.result() for key, fusion in fusions.items()}
    return fused[0] if single else fused


def iter_views(
    network: Callable[[Tensor], Any],
    images: Tensor,
    scales: Sequence[float],
    *,
    flip: bool | Sequence[bool] = True,
    rescale: Callable[[Tensor, float], Tensor] | None = None,
    max_batch: int | None = None,
) -> Iterator[tuple[float, Any]]:
    """Run ``network`` scale by scale; an image and its flip go through it in one batch.

    Args:
        network: takes a batch (N, 3, h, w) and returns a tensor, a tuple or a dict of maps (N, C, h', w') and vectors
            (N, K).
        images: (B, 3, H, W).
        scales: factors of the image size, in the order in which they are run.
        flip: whether the horizontal flip is run as well, for all scales or for each.
        rescale: function of (images, scale) that makes the input of a scale; :func:`rescale_bilinear` by default.
        max_batch: most images in one call of the network, by default all 2 B of a scale.

    Yields:
        The scale and the network's outputs with a leading axis of views, (F, B, ...); F is 2 where the flip was run,
        whose maps are already flipped back.

    Raises:
        ValueError: the number of ``flip`` is not that of ``scales``.
    """
    flips = [flip] * len(scales) if isinstance(flip, bool) else list(flip)
    if len(flips) != len(scales):
        raise ValueError(f'flip has to be one bool or {len(scales)}, one for each scale, got {len(flips)}')
    rescale = rescale_bilinear if rescale is None else rescale
    for scale, flipped in zip(scales, flips):
        batch = rescale(images, scale)
        if flipped:
            batch = torch.cat((batch, batch.flip(-1)))
        yield scale, _apply(partial(_views_first, views=1 + flipped), run_in_batches(network, batch, max_batch))


def run_in_batches(network: Callable[[Tensor], Any], batch: Tensor, max_batch: int | None = None) -> Any:
    """``network(batch)`` in pieces of at most ``max_batch`` images, outputs joined; None runs all at once.

    Raises:
        ValueError: ``max_batch`` is less than 1.
    """
    if max_batch is None or len(batch) <= max_batch:
        return network(batch)
    if max_batch < 1:
        raise ValueError(f'max_batch has to be at least 1, got {max_batch}')
    parts = [network(part) for part in batch.split(max_batch)]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    joined = {key: torch.cat([named(part)[key] for part in parts]) for key in named(parts[0])}
    return joined if isinstance(parts[0], Mapping) else tuple(joined.values())


def rescale_bilinear(images: Tensor, scale: float, divisor: int = 1) -> Tensor:
    """Resize ``images`` (B, 3, H, W) to (int(scale * H), int(scale * W)), half-pixel centres.

    With ``divisor`` above 1 the sides are rounded to its nearest multiple instead, at least one. At scale 1 the images
    are returned as they are.
    """
    if scale == 1:
        return images
    return half_pixel(images, scaled_size(images.shape[-2:], scale, divisor))


def scaled_size(size: Sequence[int], scale: float, divisor: int = 1) -> tuple[int, int]:
    """(H, W) of an image of ``size`` at ``scale``; see :func:`rescale_bilinear`."""
    if divisor == 1:
        return tuple(max(int(scale * side), 1) for side in size)
    return tuple(max(round(scale * side / divisor), 1) * divisor for side in size)


def group_by_size(images: Iterable[Tensor]) -> list[tuple[list[int], Tensor]]:
    """Stack images (3, H, W) of equal size: a list of (positions, batch (N, 3, H, W)), in order of first appearance."""
    groups: dict[tuple[int, ...], tuple[list[int], list[Tensor]]] = {}
    for position, image in enumerate(images):
        positions, members = groups.setdefault(tuple(image.shape), ([], []))
        positions.append(position)
        members.append(image)
    return [(positions, torch.stack(members)) for positions, members in groups.values()]


def named(outputs: Any) -> dict[Any, Tensor]:
    """Outputs of a network as a dict: by name, by position of a tuple, or {0: tensor}."""
    if isinstance(outputs, Tensor):
        return {0: outputs}
    return dict(outputs) if isinstance(outputs, Mapping) else dict(enumerate(outputs))


def _apply(function: Callable[[Tensor], Tensor], outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return function(outputs)
    if isinstance(outputs, Mapping):
        return {key: function(value) for key, value in outputs.items()}
    return tuple(function(value) for value in outputs)


def _views_first(output: Tensor, views: int) -> Tensor:
    output = output.unflatten(0, (views, -1))
    if views == 1 or output.ndim == 3:
        return output
    return torch.stack((output[0], output[1].flip(-1)))


def _reduce_flips(output: Tensor, rule: str) -> Tensor:
    if rule == 'max':
        return output.amax(dim=0)
    return output.sum(dim=0) if rule == 'sum' else output.mean(dim=0)
