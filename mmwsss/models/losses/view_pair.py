"""Consistency of a network between an image and a moved copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmwsss.ops.realign import check_transform, move, realign_attention, realign_maps
from mmwsss.registry import MODELS

ACTIVATIONS = ('class_token', 'maps')


class Seen(NamedTuple):
    """What a network says about one view.

    Args:
        attention: softmax weights (B, heads, 1 + h*w, 1 + h*w) of the layers that were asked for.
        grid: (h, w).
        maps: localization maps (B, C, h, w); None where they are not compared.
    """

    attention: Sequence[Tensor]
    grid: tuple[int, int]
    maps: Tensor | None = None

    def split(self) -> tuple[Seen, Seen]:
        """Both halves of a batch that holds one view after the other."""
        attention = [weights.chunk(2) for weights in self.attention]
        maps = (None, None) if self.maps is None else self.maps.chunk(2)
        return tuple(Seen([pair[i] for pair in attention], self.grid, maps[i]) for i in (0, 1))


@MODELS.register_module()
class ViewPairConsistency(nn.Module):
    """Ties activation and attention of an image to those of its moved copy, patch by patch (ACR, sec. 3).

    Region activation is the attention that the class token pays to the patches, or the localization maps of methods
    without such maps; region affinity is the attention between patches. Attention is averaged over heads. Any segmentor
    with the option ``consistency`` and a :class:`~mmwsss.models.backbones.TokenViT` can use it.

    Args:
        transform: how the second view is moved, a key of :data:`~mmwsss.ops.realign.TRANSFORMS`; ACR mirrors it.
        layers: blocks whose attention is compared, see :meth:`TokenViT.encode`; only these pay for it.
        activation: 'class_token' or 'maps'.
        loss_activation, loss_affinity: losses of two tensors, such as ``ConsistencyLoss``; None switches them off.

    Raises:
        ValueError: unknown ``transform`` or ``activation``, or no layer for a loss that reads attention.

    Attributes:
        attention_layers: those of ``layers``, or none where no loss reads attention.
    """

    def __init__(
        self,
        transform: str = 'hflip',
        layers: Sequence[int] | str = 'all',
        activation: str = 'class_token',
        loss_activation: dict | None = None,
        loss_affinity: dict | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f'ViewPairConsistency.activation has to be one of {ACTIVATIONS}, got {activation!r}')
        self.transform = check_transform(transform)
        self.activation = activation
        self.loss_activation = None if loss_activation is None else MODELS.build(loss_activation)
        self.loss_affinity = None if loss_affinity is None else MODELS.build(loss_affinity)
        needs_attention = self.loss_affinity is not None or (
            self.loss_activation is not None and activation == 'class_token'
        )
        if needs_attention and not layers:
            raise ValueError("ViewPairConsistency.layers is empty; name layers or 'all', or switch the losses off")
        self.attention_layers = layers if needs_attention else ()

    @property
    def compares_maps(self) -> bool:
        """Whether the localization maps of both views are needed."""
        return self.loss_activation is not None and self.activation == 'maps'

    def move(self, images: Tensor) -> Tensor:
        """The second view (B, 3, H', W') of ``images`` (B, 3, H, W)."""
        return move(images, self.transform)

    def forward(self, first: Seen, second: Seen) -> dict[str, Tensor]:
        """``loss_act`` and ``loss_aff``, where they are on, of both views; ``second`` is still moved."""
        losses = {}
        attention = [self._attention(first), self._realigned(second)] if self.attention_layers else None
        if self.loss_activation is not None:
            if self.activation == 'maps':
                pair = first.maps, realign_maps(second.maps, self.transform)
            else:
                pair = [weights[..., 0, 1:] for weights in attention]
            losses['loss_act'] = self.loss_activation(*pair)
        if self.loss_affinity is not None:
            losses['loss_aff'] = self.loss_affinity(*(weights[..., 1:, 1:] for weights in attention))
        return losses

    @staticmethod
    def _attention(seen: Seen) -> Tensor:
        return torch.stack([weights.mean(dim=1) for weights in seen.attention], dim=1)

    def _realigned(self, seen: Seen) -> Tensor:
        return realign_attention(self._attention(seen), seen.grid, self.transform)
