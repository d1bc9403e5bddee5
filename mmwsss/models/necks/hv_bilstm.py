"""Conditioning of patch features on their rows and columns."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmwsss.registry import MODELS


@MODELS.register_module()
class HVBiLSTM(BaseModule):
    """Bidirectional LSTMs along the rows and along the columns of a patch grid, concatenated (ViT-PCM, HV-BiLSTM).

    Output channels: [row forward, row backward, column forward, column backward], ``hidden`` each; only the first or
    last two for ``directions`` 'h' or 'v'. Grids may be rectangular.

    Args:
        in_channels: channels D of the patch features.
        hidden: units of each LSTM.
        dropout: rate of the shared dropout on the input and of the one each LSTM draws for itself after it.
        directions: 'hv', 'h' or 'v'.
        init_cfg: how ``init_weights`` starts; without it Glorot-uniform input kernels, orthogonal recurrent kernels and
            zero biases but one for the forget gate stay as they are drawn here.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int = 192,
        dropout: float = 0.2,
        directions: str = 'hv',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if directions not in ('hv', 'h', 'v'):
            raise ValueError(f"directions has to be 'hv', 'h' or 'v', got {directions!r}; for none leave the neck out")
        self.names = [f'{axis}_{way}' for axis in _AXES[directions] for way in ('fwd', 'bwd')]
        self.out_channels = hidden * len(self.names)
        self.dropout = nn.Dropout(dropout)
        for name in self.names:
            lstm = nn.LSTM(in_channels, hidden, batch_first=True)
            lstm.bias_hh_l0.requires_grad_(False)  # the original has one bias; a second one would train twice as fast
            self.add_module(name, lstm)
        self._draw_weights()

    def _draw_weights(self) -> None:
        for name in self.names:
            lstm = self.get_submodule(name)
            hidden = lstm.hidden_size
            nn.init.xavier_uniform_(lstm.weight_ih_l0)
            nn.init.orthogonal_(lstm.weight_hh_l0)
            nn.init.zeros_(lstm.bias_hh_l0)
            with torch.no_grad():
                lstm.bias_ih_l0.zero_()
                lstm.bias_ih_l0[hidden : 2 * hidden] = 1

    def forward(self, features: Tensor) -> Tensor:
        """Condition patch ``features`` (B, D, h, w); returns (B, out_channels, h, w)."""
        features = self.dropout(features)
        return torch.cat([self._scan(name, features) for name in self.names], dim=1)

    def _scan(self, name: str, features: Tensor) -> Tensor:
        along_rows, backward = name.startswith('row'), name.endswith('bwd')
        x = features.permute(0, 2, 3, 1) if along_rows else features.permute(0, 3, 2, 1)  # B D h w -> B lines steps D
        batch, lines = x.shape[:2]
        x = self.dropout(x.flatten(0, 1))
        x = x.flip(1) if backward else x
        x = self.get_submodule(name)(x)[0]
        x = (x.flip(1) if backward else x).unflatten(0, (batch, lines))
        return x.permute(0, 3, 1, 2) if along_rows else x.permute(0, 3, 2, 1)


_AXES = {'hv': ('row', 'col'), 'h': ('row',), 'v': ('col',)}
