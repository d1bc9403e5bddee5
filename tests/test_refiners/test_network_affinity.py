import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.config import Config

from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.refiners import NetworkAffinity, RandomWalk, random_walk
from mmwsss.refiners.cells import pool_to_cells, spread_cells
from mmwsss.refiners.network_affinity import normalised
from mmwsss.registry import MODELS, TASK_UTILS

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
ARCH = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)


def model_config(**settings):
    preprocessor = dict(type='WeakSegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True)
    model = dict(
        type='AffinityNetwork',
        data_preprocessor=preprocessor,
        backbone=dict(type='TokenViT', arch=ARCH, img_size=32, patch_size=4, out_indices=(0, 1), drop_rate=0.5),
        head=dict(type='AffinityHead', in_channels=(8, 8), tap_channels=(4, 4)),
        loss_affinity=dict(type='AffinityLoss'),
        in_index=(0, 1),
    )
    return {**model, **settings}


@pytest.fixture
def files(tmp_path):
    """Config and checkpoint of a network, and the network."""
    torch.manual_seed(3)
    model = MODELS.build(model_config())
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    Config(dict(default_scope='mmwsss', model=model_config())).dump(tmp_path / 'affinity.py')
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'iter_3.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    return str(tmp_path / 'affinity.py'), str(tmp_path / 'iter_3.pth'), model.eval()


def draw(size=(26, 31), batch=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    return images, torch.rand(batch, 3, *size, generator=generator)


def test_affinity_is_that_of_the_trained_network(files, tmp_path):
    config, checkpoint, model = files
    images, maps = draw()
    state = torch.get_rng_state()
    source = TASK_UTILS.build(dict(type='NetworkAffinity', config=config, checkpoint=str(tmp_path)))
    assert torch.equal(torch.get_rng_state(), state)
    assert not source.network.training
    matrix = source(images, 4)
    assert not matrix.requires_grad
    mean, std = (torch.tensor(row)[:, None, None] for row in (MEAN, STD))
    padded = torch.zeros(2, 3, 28, 32)
    padded[..., :26, :31] = (images - mean) / std
    with torch.no_grad():
        expected, size = model.affinity_matrix(padded)
    assert size == (7, 8)
    torch.testing.assert_close(matrix.to_dense(), expected.to_dense())
    assert expected.to_dense().unique().numel() > 100

    refiner = RandomWalk(dict(type='NetworkAffinity', config=config, checkpoint=checkpoint), logt=3, stride=4)
    walked = random_walk(matrix, pool_to_cells(maps, 4), 8.0, 3)
    torch.testing.assert_close(refiner(images, maps), spread_cells(walked, 4, (26, 31)))


def test_network_and_colours_see_the_channels_of_the_training(files):
    config, checkpoint, model = files
    images, _ = draw((28, 32))
    trained_on = model.data_preprocessor(dict(inputs=list(images.flip(1))))['inputs']  # files are BGR
    with torch.no_grad():
        expected, _ = model.affinity_matrix(trained_on)
    torch.testing.assert_close(NetworkAffinity(config, checkpoint)(images, 4).to_dense(), expected.to_dense())


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_images_are_prepared_as_for_the_training(bgr_to_rgb):
    preprocessor = dict(type='WeakSegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=bgr_to_rgb)
    model = MODELS.build(model_config(data_preprocessor=preprocessor))
    images, _ = draw((28, 32))
    expected = model.data_preprocessor(dict(inputs=list(images.flip(1))))['inputs']  # files are BGR
    torch.testing.assert_close(normalised(model, images), expected)


def test_works_in_a_chain_and_in_threads(files):
    config, checkpoint, _ = files
    source = dict(type='NetworkAffinity', config=config, checkpoint=checkpoint)
    labeler = PseudoLabeler(
        [
            dict(type='AddBackground', power=6.0),
            dict(type='Refine', refiner=dict(type='RandomWalk', affinity=source, stride=4, logt=2)),
            dict(type='Decide'),
        ]
    )
    images, maps = draw()
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])

    def run(chain):
        state = LabelState(maps=maps, has_background=False, size=(26, 31), images=images, labels=labels)
        return chain(state).mask

    mask = run(labeler)
    assert mask.shape == (2, 26, 31)
    assert set(mask[0].unique().tolist()) <= {0, 1, 3}
    with ThreadPoolExecutor(3) as pool:
        masks = list(pool.map(run, [labeler, labeler, copy.deepcopy(labeler)]))
    assert all(torch.equal(found, mask) for found in masks)


def test_cells_of_another_size_are_refused(files):
    source = NetworkAffinity(*files[:2])
    with pytest.raises(ValueError, match=r'8 x 8 cells of images of 32 x 32 pixels, cells of 8 would be 4 x 4; set'):
        source(draw((32, 32))[0], 8)


def test_wrong_files_are_refused_with_one_line(files, tmp_path):
    config, checkpoint, model = files
    Config(dict(model=dict(type='CAMClassifier'))).dump(tmp_path / 'cam.py')
    torch.save(dict(state_dict=dict(list(model.state_dict().items())[:-1])), tmp_path / 'part.pth')
    (tmp_path / 'text.pth').write_text('no weights')
    for paths, message in (
        ((tmp_path / 'gone.py', checkpoint), r'gone\.py does not exist'),
        ((tmp_path / 'cam.py', checkpoint), 'is of no AffinityNetwork'),
        ((config, tmp_path / 'gone.pth'), r'checkpoint of NetworkAffinity: .*gone\.pth does not exist'),
        ((config, tmp_path / 'part.pth'), r'part\.pth .*f9\.weight'),
        ((config, tmp_path / 'text.pth'), r'text\.pth cannot be read'),
    ):
        with pytest.raises(ValueError, match=message) as error:
            NetworkAffinity(*map(str, paths))
        assert str(error.value).startswith('NetworkAffinity: ')
        assert '\n' not in str(error.value)
