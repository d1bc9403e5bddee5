"""Reading the checkpoints of the networks of maps in PMM's release, and SEAM's own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .official_checkpoints import refuse_unknown, require_layers

HEAD = ('fc8', 'f8_3', 'f8_4', 'f9')
_LAYERS = {name: f'head.{name}.' for name in HEAD} | dict(backbone='backbone.')
# Our backbones have the official names; a network of another kind shows in the first part of a name.
_BACKBONE = re.compile(r'(conv1a|bn7|b[2-7](_\d+)?|conv1|bn1|layer[1-4])\.')


def convert_pmm_seam(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of an official network of maps to ``backbone`` and ``head`` of ``SEAM``, float32.

    Raises:
        ValueError: a weight is of no known layer, or a layer of the head or the whole backbone is missing.
    """
    state, unknown = {}, []
    for name, value in state_dict.items():
        plain = re.sub(r'^(module\.)+', '', name)
        if plain in {f'{layer}.weight' for layer in HEAD}:
            ours = f'head.{plain}'
        elif _BACKBONE.match(plain):
            ours = f'backbone.{plain}'
        else:
            unknown.append(name)
            continue
        # Counters of batches are whole numbers and stay so.
        state[ours] = (value.float() if value.is_floating_point() else value).contiguous()
    refuse_unknown(unknown, 'a network of maps of PMM or SEAM')
    require_layers(state, _LAYERS, len(state_dict), 'a whole network of maps of PMM or SEAM')
    return state
