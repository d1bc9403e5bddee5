"""Full-size networks of ACR against the official code, with weights made by a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from acr_cases import assert_forward, config
from official import assert_relative, layout, recipe_weight
from vectors import load, tensor, vectors

from mmwsss.models.backbones.token_vit import ARCHITECTURES
from mmwsss.models.utils.acr_weights import acr_name, convert_acr
from mmwsss.registry import MODELS


def heads_of(shapes: dict) -> int:
    """Heads of a standard network of this width."""
    width = shapes['pretrained.model.cls_token'][-1]
    return next(arch['num_heads'] for arch in ARCHITECTURES.values() if arch['embed_dims'] == width)


@vectors('acr', 'state_dict_layout.json')
def test_every_official_weight_has_its_place(path: Path) -> None:
    for name, shapes in json.loads(path.read_text()).items():
        with torch.device('meta'):
            state = convert_acr({key: torch.empty(shape) for key, shape in shapes.items()})
            found = {key: value.shape for key, value in state.items()}
            model = MODELS.build(config(found, heads_of(shapes)))
        assert {key: value.shape for key, value in model.state_dict().items()} == found, name


@vectors('acr', 'full_vitb*.npz')
def test_full_network(path: Path) -> None:
    data = load(path)
    shapes, seed = layout(path.parent, path.stem.removeprefix('full_')), data['recipe_seed'].item()
    used = {name: shape for name, shape in shapes.items() if acr_name(name) is not None}
    state = convert_acr({name: recipe_weight(name, shape, seed) for name, shape in used.items()})
    with torch.device('meta'):  # nothing is drawn that the file replaces
        model = MODELS.build(config({key: value.shape for key, value in state.items()}, heads_of(shapes)))
    model.load_state_dict(state, assign=True)
    model.eval()
    with torch.no_grad():
        assert_forward(model, data, 1e-4)
    ((key, expected),) = [(key, value) for key, value in data.items() if key.startswith('getam_')]
    _, form, start, index = key.replace('_class', '_').split('_')
    model.test_cfg.update(form=form, start_layer=int(start), affinity=False)
    wanted = torch.eye(model.num_classes - 1)[int(index)]
    found = model.network_outputs(tensor(data['x']), wanted)['maps']
    assert_relative(found[:, int(index)].flatten(1), expected, 1e-4)
