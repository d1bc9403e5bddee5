import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from mmwsss.refiners import PAMR, PAR, par, par_affinity, propagate
from mmwsss.registry import REFINERS

DILATIONS = (1, 3)


@pytest.fixture(params=['torch', 'numba'])
def backend(request):
    return request.param


def draw(batch=2, channels=3, size=(11, 17), seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    return images, torch.rand(batch, channels, *size, generator=generator)


def plain_step(weights, maps, dilations):
    """One propagation with a copy of the maps for every neighbour."""
    height, width = maps.shape[-2:]
    copies = []
    for d in dilations:
        padded = F.pad(maps, (d,) * 4, mode='replicate')
        offsets = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
        copies += [padded[..., y * d : y * d + height, x * d : x * d + width] for y, x in offsets]
    return (torch.stack(copies, dim=2) * weights[:, None]).sum(dim=2)


@pytest.mark.parametrize('kind', [dict(), dict(squared=False, centre=True, scale=0.1, position_weight=0.0)])
@pytest.mark.parametrize('dilations', [DILATIONS, (2,), (1, 30)])
def test_both_backends_give_the_same_affinity(kind, dilations):
    images, _ = draw()
    images[:, :, :5, :6] = 90  # a flat region, where the deviation is 0
    compiled, plain = (par_affinity(images, dilations, **kind, backend=b).weights for b in ('numba', 'torch'))
    assert compiled.shape == (2, 8 * len(dilations), 11, 17)
    torch.testing.assert_close(compiled, plain, atol=2e-6, rtol=1e-5)


def test_weights_of_a_pixel_sum_to_one_and_the_position_term(backend):
    images, _ = draw()
    total = par_affinity(images, DILATIONS, position_weight=0.25, backend=backend).weights.sum(dim=1)
    torch.testing.assert_close(total, torch.full_like(total, 1.25))


def test_range_of_the_images_does_not_matter(backend):
    images, _ = draw()
    levels, unit = (par_affinity(i, DILATIONS, backend=backend).weights for i in (images, images / 255))
    torch.testing.assert_close(levels, unit, atol=1e-5, rtol=1e-4)


def test_steps_are_weighted_sums_of_the_neighbours(backend):
    images, maps = draw()
    affinity = par_affinity(images, DILATIONS, backend=backend)
    expected = maps
    for _ in range(3):
        expected = plain_step(affinity.weights, expected, DILATIONS)
    given = maps.clone()
    torch.testing.assert_close(propagate(affinity, given, 3, backend=backend), expected)
    assert torch.equal(given, maps)


def test_no_iteration_leaves_the_maps(backend):
    images, maps = draw()
    affinity = par_affinity(images, DILATIONS, backend=backend)
    assert torch.equal(propagate(affinity, maps, 0, backend=backend), maps)


def test_absent_classes_are_zero_and_never_read(backend):
    images, maps = draw(channels=4)
    refiner = PAR(4, DILATIONS, backend=backend)
    full = refiner(images, maps)
    maps[0, 2], maps[1, 1] = torch.nan, torch.nan
    labels = torch.tensor([[1, 0, 1], [0, 1, 1]])  # over the foreground, channel 0 of the maps is the background
    refined = refiner(images, maps, labels)
    for image, absent in ((0, 2), (1, 1)):
        keep = [c for c in range(4) if c != absent]
        torch.testing.assert_close(refined[image, keep], full[image, keep])
        assert not refined[image, absent].any()
    assert not refiner(images, maps[:, 1:], torch.zeros(2, 3)).any()


def test_small_maps_are_brought_to_the_image_with_aligned_corners(backend):
    images, maps = draw()
    small = maps[..., :4, :5]
    large = F.interpolate(small, size=images.shape[-2:], mode='bilinear', align_corners=True)
    refiner = PAR(2, DILATIONS, backend=backend)
    torch.testing.assert_close(refiner(images, small), refiner(images, large))


def test_edges_of_the_image_stop_the_maps(backend):
    images = torch.full((1, 3, 16, 16), 30.0)
    images[..., 8:] = 220
    maps = torch.zeros(1, 1, 16, 16)
    maps[..., 6:] = 1
    refined = PAR(10, (1, 2), position_weight=0, backend=backend)(images, maps)
    assert refined[..., 8:].min() > 0.95
    assert refined[..., 6:8].max() < 0.5  # two columns of the left object, wrongly marked before


def test_affinity_can_be_shared_between_calls():
    images, maps = draw()
    refiner = PAR(3, DILATIONS)
    affinity = refiner.affinity(images)
    assert torch.equal(refiner(images, maps, affinity=affinity), refiner(images, maps))
    assert torch.equal(refiner(torch.zeros_like(images), maps, affinity=affinity), refiner(images, maps))


def test_threads_inside_and_outside_do_not_change_the_result():
    inputs = [draw(seed=seed) for seed in range(4)]
    refiner = PAR(5, DILATIONS, backend='numba')
    expected = [refiner(*pair) for pair in inputs]
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda pair: refiner(*pair), inputs * 4))
    finally:
        torch.set_num_threads(1)
    for place, result in enumerate(results):
        assert torch.equal(result, expected[place % len(inputs)])


def test_gradients_pass_through_the_torch_backend_that_auto_takes():
    images, maps = draw(batch=1, channels=1, size=(4, 5))
    affinity = par_affinity(images, (1,))
    maps = maps.requires_grad_()
    propagate(affinity, maps, 2).sum().backward()
    ones = torch.ones(1, 1, 4, 5)
    step = torch.autograd.functional.jvp(lambda m: propagate(affinity, m, 2), maps.detach(), ones)[1]
    assert maps.grad.sum().item() == pytest.approx(step.sum().item(), rel=1e-5)
    with pytest.raises(RuntimeError, match='requires grad'):
        propagate(affinity, maps, 2, backend='numba')


@pytest.mark.parametrize(('name', 'cls'), [('PAR', PAR), ('PAMR', PAMR)])
def test_built_from_a_config(name, cls):
    images, maps = draw(size=(9, 10))
    refiner = REFINERS.build(dict(type=name, iterations=2, dilations=[1, 2]))
    assert type(refiner) is cls
    assert refiner(images, maps).shape == maps.shape


def test_pamr_differs_from_par():
    images, maps = draw()
    assert not torch.allclose(PAR(3, DILATIONS)(images, maps), PAMR(3, DILATIONS)(images, maps), atol=1e-2)


@pytest.mark.parametrize('dilations', [(), (0,), (1.5,)])
def test_impossible_dilations_are_refused(dilations):
    with pytest.raises(ValueError, match='positive whole numbers'):
        PAR(dilations=dilations)


@pytest.mark.parametrize('cls', [PAR, PAMR])
@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(backend='cuda'), 'auto, torch, numba'),
        (dict(iterations=-1), 'iterations is -1; expected a whole number of at least 0'),
        (dict(iterations=2.5), 'iterations is 2.5'),
    ],
)
def test_impossible_settings_are_refused(cls, setting, message):
    with pytest.raises(ValueError, match=message):
        cls(**setting)


def test_absent_channels_are_not_propagated(backend, monkeypatch):
    images, maps = draw(channels=5)
    widths = []

    def counted(step):
        return lambda weights, kept, *args: widths.append(len(kept)) or step(weights, kept, *args)

    make, plain = par._propagate_numba, par._propagate_torch
    monkeypatch.setattr(par, '_propagate_numba', lambda kernels: counted(make(kernels)))
    monkeypatch.setattr(par, '_propagate_torch', counted(plain))
    refiner = PAR(1, DILATIONS, backend=backend)
    refiner(images, maps, torch.tensor([[0, 1, 0, 0], [1, 1, 0, 1]]))  # and the background
    refiner(images, maps, torch.tensor([[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]))
    refiner(images, maps)
    assert widths == [2, 4, 1, 5, 5]


def test_affinity_has_no_gradient(backend):
    images, _ = draw()
    weights = par_affinity(images.float().requires_grad_(), DILATIONS, backend=backend).weights
    assert not weights.requires_grad
    assert torch.equal(weights, par_affinity(images, DILATIONS, backend=backend).weights)


def test_maps_of_another_size_are_refused():
    images, maps = draw()
    with pytest.raises(ValueError, match='resize the maps'):
        propagate(par_affinity(images, DILATIONS), maps[..., 1:], 1)


def test_missing_numba_is_named(monkeypatch):
    images, maps = draw()
    monkeypatch.setitem(sys.modules, 'numba', None)
    monkeypatch.delitem(sys.modules, 'mmwsss.refiners.par_kernels', raising=False)
    with pytest.raises(ImportError, match=r"PAR on the CPU needs numba .*install it or set backend='torch'"):
        PAR(1, DILATIONS)(images, maps)
    assert PAR(1, DILATIONS, backend='torch')(images, maps).shape == maps.shape
