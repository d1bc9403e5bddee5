"""Reading the checkpoints of the affinity networks in PMM's release."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .official_checkpoints import refuse_unknown, require_layers

_HEAD = ('f8_3', 'f8_4', 'f8_5', 'f9')
_LAYERS = {name: f'head.{name}.' for name in _HEAD} | dict(backbone='backbone.')
_BACKBONE = re.compile(
    r'(conv1a|bn7|b[2-7](_\d+)?\.(bn_branch2(a|b1|b2)|conv_branch(1|2a|2b1|2b2))'
    r'|conv1|bn1|layer[1-4]\.\d+\.((conv|bn)[13]|(conv|bn)2\.\d|downsample\.[01]))'
    r'\.(weight|bias|running_mean|running_var|num_batches_tracked)$'
)


def convert_pmm_affinity(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the official network to ``backbone`` and ``head`` of ``AffinityNetwork``, float32.

    Raises:
        ValueError: a weight is of no known layer, or a layer of the head or the whole backbone is missing.
    """
    state, unknown = {}, []
    for name, value in state_dict.items():
        plain = re.sub(r'^(module\.)+', '', name)
        part = 'head' if plain in {f'{layer}.weight' for layer in _HEAD} else 'backbone'
        if part == 'backbone' and not _BACKBONE.match(plain):
            unknown.append(name)
            continue
        # Counters of batches are whole numbers and stay so.
        state[f'{part}.{plain}'] = (value.float() if value.is_floating_point() else value).contiguous()
    refuse_unknown(unknown, 'an affinity network of PMM')
    require_layers(state, _LAYERS, len(state_dict), 'a whole affinity network of PMM')
    return state
