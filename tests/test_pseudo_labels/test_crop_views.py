import pytest
import torch
from mmseg.structures import SegDataSample
from tiny_configs import CONFIGS, tiny_config

from mmwsss.evaluation.record import views_in_words
from mmwsss.pseudo_labels.crop_views import CropViews, check_weak_views, crop_views, resize_crop
from mmwsss.pseudo_labels.manifest import protocol_of_masks
from mmwsss.pseudo_labels.multi_crop import multi_crop_boxes, multi_crop_maps
from mmwsss.pseudo_labels.views import FusionRule
from mmwsss.registry import MODELS

SETTINGS = dict(scales=(0.5, 1.5), crop_size=16, stride=10)


def pictures(count=1, height=20, width=30):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).float()


class Network:
    """Maps that depend on the place in the crop, scores that tell crops apart."""

    def __init__(self):
        self.calls = []

    def __call__(self, crops):
        self.calls.append(len(crops))
        ramp = torch.linspace(0, 1, crops.shape[-1])  # not symmetric: a flip matters
        maps = crops.mean(1, keepdim=True) * ramp
        return dict(maps=torch.cat((maps, -maps), dim=1), scores=crops.mean((2, 3)))


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('max_batch', [1, 64])
def test_maps_are_those_of_the_function_for_one_image(flip, max_batch):
    image = pictures()
    boxes, _ = multi_crop_boxes((20, 30), **SETTINGS)
    outputs = CropViews(**SETTINGS, flip=flip, max_batch=max_batch).outputs(Network(), image)
    expected = multi_crop_maps(
        lambda crops: Network()(crops.float())['maps'], image[0].byte(), boxes, crop_size=16, flip=flip
    )
    assert tuple(outputs['maps'].shape) == (1, 2, 20, 30)
    # Pillow rounds the resized pixels to whole grey levels.
    torch.testing.assert_close(outputs['maps'][0], expected, atol=0.6, rtol=0)


def test_images_of_a_batch_do_not_mix():
    images, views = pictures(3), CropViews(**SETTINGS)
    together = views.outputs(Network(), images)
    for i in range(3):
        alone = views.outputs(Network(), images[i : i + 1])
        for name in ('maps', 'scores'):
            torch.testing.assert_close(together[name][i : i + 1], alone[name])


def test_scores_are_those_of_the_whole_image():
    images, network = pictures(2), Network()
    assert [0, 20, 0, 30] not in multi_crop_boxes((20, 30), [1.5], 16, 10)[0].tolist()
    outputs = CropViews(scales=(1.5,), crop_size=16, stride=10).outputs(network, images)
    whole = resize_crop(images, (0, 20, 0, 30), 16)
    torch.testing.assert_close(outputs['scores'], whole.mean((2, 3)))
    plain = CropViews(scales=(1.5,), crop_size=16, stride=10).outputs(lambda crops: Network()(crops)['maps'], images)
    torch.testing.assert_close(plain[0], outputs['maps'])
    network = Network()
    CropViews(scales=(0.5,), crop_size=16, stride=10, flip=False).outputs(network, images)
    assert sum(network.calls) == 2, 'the only crop is the whole image'


def test_rules_hold_for_every_crop():
    image, views = pictures(), CropViews(scales=(1.0,), crop_size=30, stride=30)
    network = Network()
    found = views.outputs(network, image, dict(maps=FusionRule('max', 'sum', 'after')))['maps']
    crop = torch.nn.functional.interpolate(image, (30, 30), mode='bilinear', antialias=True)
    maps, mirrored = network(crop)['maps'], network(crop.flip(-1))['maps'].flip(-1)
    expected = torch.nn.functional.interpolate(torch.maximum(maps, mirrored).relu(), (20, 30), mode='bilinear')
    torch.testing.assert_close(found, expected, atol=2.0, rtol=0.05)  # the maximum does not commute with resizing
    assert not found[:, 1].any()
    double = views.outputs(Network(), image, dict(maps=FusionRule('sum', 'sum')))['maps']
    torch.testing.assert_close(double, views.outputs(Network(), image)['maps'])


def test_calls_are_bounded():
    network = Network()
    CropViews(**SETTINGS, max_batch=6).outputs(network, pictures(2))
    assert max(network.calls) <= 6
    assert network.calls[0] == 4, 'one crop of two images and its flip'


@pytest.mark.parametrize(('views', 'message'), [
    (dict(type='many', scales=(1,)), r"views\.type has to be 'multi_scale' or 'multi_crop', got 'many'"),
    (dict(scales=(1,), stride=3), "has options type, scales, flip; 'stride' is none"),
    (dict(type='multi_crop', scales=(1,), side=3), "inner_crop, flip, max_batch; 'side' is none"),
    (dict(type='multi_crop'), 'needs positive scales'),
    (dict(type='multi_crop', scales=(1, 0)), 'needs positive scales'),
    (dict(type='multi_crop', scales=(1,), crop_size=0), r'views\.crop_size has to be positive, got 0'),
    (dict(type='multi_crop', scales=(1,), inner_crop='wide'), r'views\.inner_crop has to be one of'),
])  # fmt: skip
def test_settings_that_cannot_be_understood(views, message):
    with pytest.raises(ValueError, match=message):
        check_weak_views(views)


def test_in_words():
    assert crop_views(None) is None
    assert crop_views(dict(scales=(1, 2), flip=True)) is None
    of_a_decoder = dict(scales=(0.5, 2), flip=True, base=(2048, 512))
    assert views_in_words(of_a_decoder) == 'scales 0.5, 2 with mirror images'
    assert protocol_of_masks(False, of_a_decoder).startswith('views at scales 0.5, 2 with mirror images')
    views = dict(type='multi_crop', scales=(0.75, 1.0), crop_size=16, stride=10)
    assert views_in_words(views) == 'crops of 16 every 10 pixels at scales 0.75, 1 with mirror images'
    assert views_in_words({**views, 'flip': False}) == 'crops of 16 every 10 pixels at scales 0.75, 1'
    words = 'crops of 16 every 10 pixels at scales 0.75, 1 with mirror images; image labels used for: pseudo'
    assert protocol_of_masks(True, views) == words


@pytest.mark.parametrize('name', ['cam_shapes', 'vitpcm_shapes', 'apc_shapes', 'acr_shapes', 'cosa_shapes'])
def test_every_method_takes_crops(name, export_scope, tmp_path):
    cfg = tiny_config(CONFIGS / f'{name}.py', tmp_path, tmp_path)
    side = 2 * cfg.model.backbone.img_size
    crop = cfg.model.backbone.img_size // 2
    cfg.model.test_cfg.views = dict(type='multi_crop', scales=(0.5, 1.0), crop_size=crop, stride=crop // 2)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    images = torch.randn(2, 3, side, side)
    labels = torch.eye(model.num_classes - 1)[:2]
    for known in (labels, None):
        outputs = model.viewed_outputs(images, known)
        assert tuple(outputs['maps'].shape[-2:]) == (side, side)
        assert tuple(outputs['scores'].shape) == (2, model.num_classes - 1)
        assert all(output.isfinite().all() for output in outputs.values())
        own = {key: value[:1] for key, value in outputs.items()}
        sample = SegDataSample(metainfo=dict(ori_shape=(side, side), img_shape=(side, side)))
        model.pseudo_labeler = None
        mask = model.pseudo_label(own, sample, None if known is None else known[:1]).mask
        assert tuple(mask.shape) == (1, side, side)
        if known is not None:
            assert set(mask.unique().tolist()) <= {0, 1}
