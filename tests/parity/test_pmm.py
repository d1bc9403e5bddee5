"""The whole networks of PMM and the maps that they give, against arrays written by the official code."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmengine.config import Config
from official import assert_relative, layout, recipe_weight
from test_pmm_network_vectors import CLS_LOSS, Tapped
from test_view_vectors import image_of, normalize, pmm_network, rescale_bicubic
from torch import Tensor, nn
from vectors import close, load, tensor, vectors

from mmwsss.models.segmentors import SEAM
from mmwsss.models.utils.pmm_affinity_weights import convert_pmm_affinity
from mmwsss.models.utils.pmm_seam_weights import convert_pmm_seam
from mmwsss.models.utils.pmm_seg_weights import convert_pmm_seg
from mmwsss.refiners.affinity import fitted_radius, pair_affinity
from mmwsss.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CONVERTERS = dict(SEAM=convert_pmm_seam, aff=convert_pmm_affinity)
# Shipped configs of the networks in the files.
SHIPPED = dict(
    resnet38_SEAM='seam_resnet38d_8xb3-3520_voc12aug-448x448_released',
    scalenet101_SEAM='seam_scalenet101_8xb2-13k_voc12aug-448x448_mc-train_released',
    resnet38_aff='affinity_resnet38d_1xb16-5288_voc12aug-448x448_released',
    scalenet101_aff='affinity_scalenet101_1xb16-5288_voc12aug-448x448_released',
    seg_wideres38='pspnet_resnet38d_8xb2-20k_voc12aug-pseudo_512x512_released',
    seg_scalenet101='pspnet_scalenet101_8xb2-20k_voc12aug-pseudo_512x512_released',
    seg_res2net101='pspnet_res2net101_8xb2-20k_voc12aug-pseudo_512x512_released',
)


def shipped(kind: str) -> nn.Module:
    """The network of a config for a file of this kind, without memory for its weights where that is possible."""
    cfg = Config.fromfile(CONFIGS / 'pmm' / f'{SHIPPED[kind]}.py').model
    cfg.backbone.init_cfg = None
    drawn = cfg.backbone.type == 'mmpretrain.Res2Net'  # which cannot be built without memory
    with torch.device('cpu' if drawn else 'meta'):
        return MODELS.build(cfg)


def official_checkpoint(path: Path, data: dict[str, np.ndarray]) -> nn.Module:
    """The shipped network with the weights of a file, which the recipe draws by their official names."""
    kind, seed = path.stem.removeprefix('full_'), data['recipe_seed'].item()
    model, shapes = shipped(kind), layout(path.parent, kind)
    convert = CONVERTERS.get(kind.split('_')[1], convert_pmm_seg)
    if convert is convert_pmm_seg:  # the files are of the backbone, a checkpoint has the heads, too
        shapes = {f'backbone.{name}': shape for name, shape in shapes.items()}
        shapes |= {name: value.shape for name, value in model.state_dict().items() if '_head.' in name}
    official = {name: recipe_weight(name.removeprefix('backbone.'), shape, seed) for name, shape in shapes.items()}
    model.load_state_dict(convert(official), assign=True)
    return model.eval()


@vectors('pmm', 'state_dict_layout.json')
def test_there_is_a_config_of_every_network(path: Path) -> None:
    assert json.loads(path.read_text()).keys() == SHIPPED.keys()


@vectors('pmm', 'full_*_SEAM.npz')
def test_full_network_of_maps(path: Path) -> None:
    data = load(path)
    model = official_checkpoint(path, data)
    with torch.no_grad():
        cam, refined = model.maps_of(tensor(data['x']))
    assert_relative(cam, data['cam'], 1e-4)
    assert_relative(refined, data['cam_rv'], 1e-4)


@vectors('pmm', 'full_*_aff.npz')
def test_full_affinity_network(path: Path) -> None:
    data = load(path)
    model = official_checkpoint(path, data)
    with torch.no_grad():
        features = model(tensor(data['x']))
        matrix, size = model.affinity_matrix(tensor(data['x']))
    assert size == tuple(features.shape[-2:])
    radius = fitted_radius(model.radius, size)
    assert radius < model.radius, 'the files are of small maps'
    assert_relative(pair_affinity(features, radius), data['aff'], 1e-4)
    assert_relative(matrix.to_dense(), data['aff_dense'], 1e-4)


@vectors('pmm', 'full_seg_*.npz')
def test_full_network_that_segments(path: Path) -> None:
    data = load(path)
    model = official_checkpoint(path, data)
    with torch.no_grad():
        features = model.extract_feat(tensor(data['x']))
        logits = model.decode_head(features)
    assert len(features) == 4
    for i, feature in enumerate(features):
        every = 8 if feature.shape[1] > 512 else 1  # what the files store of wide maps
        assert_relative(feature[:, ::every], data[f'feat{i}'], 1e-4)
    assert logits.shape[1] == model.num_classes
    assert logits.isfinite().all()


class ToySEAM(SEAM):
    """SEAM whose refined maps come from the toy network of a file."""

    data: dict[str, np.ndarray]

    def network_outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        maps = pmm_network(self.data, inputs)[:, 1:]
        return dict(maps=maps, scores=maps.mean(dim=(-2, -1)))


@vectors('pmm', 'infer_multi_scale*.npz')
def test_maps_of_several_views(path: Path) -> None:
    data = load(path)
    views = dict(scales=data['scales'].tolist(), flip=True)
    head = dict(type='SEAMHead', in_channels=(1, 1, 1), num_classes=len(data['toy_bias']))
    settings = dict(loss_cls=CLS_LOSS, test_cfg=dict(views=views))
    model = ToySEAM(dict(type=Tapped), head, **settings)
    model.data = data
    image, labels = image_of(data['image_rgb'])[None], tensor(data['label'])[None].float()

    def pillow(images: Tensor, scale: float, divisor: int) -> Tensor:
        assert divisor == 1
        return rescale_bicubic(images, scale)

    with mock.patch('mmwsss.models.segmentors.weak_segmentor.rescale_bilinear', pillow):
        outputs = model.viewed_outputs(image, labels)
    kept = model.pseudo_maps(outputs['maps'], labels, outputs['scores'])[0]
    assert kept.flatten(1).any(dim=1).nonzero()[:, 0].tolist() == data['classes'].tolist()
    close(kept[data['classes'].tolist()], data['cams'], atol=1e-4)


@vectors('pmm', 'infer_multi_crop*.npz')
def test_maps_of_crops(path: Path) -> None:
    data = load(path)
    views = dict(type='multi_crop', scales=data['scales'].tolist())
    views.update(crop_size=data['crop_size'].item(), stride=data['stride'].item())
    head = dict(type='SEAMHead', in_channels=1, num_classes=len(data['toy_bias']))
    model = ToySEAM(dict(type=Tapped), head, loss_cls=CLS_LOSS, test_cfg=dict(views=views))
    model.data = data
    labels = tensor(data['label'])[None].float()
    outputs = model.viewed_outputs(normalize(image_of(data['image_rgb']))[None], labels)
    kept = model.pseudo_maps(outputs['maps'], labels, outputs['scores'])[0]
    assert kept.flatten(1).any(dim=1).nonzero()[:, 0].tolist() == data['classes'].tolist()
    # Official crops are rounded to whole grey levels, those of a prediction are not.
    close(kept[data['classes'].tolist()], data['cams_float16'].astype(np.float32), atol=5e-3)
