"""Mean field of the dense CRF against a brute-force one without a lattice, and its two backends against each other."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mmwsss.refiners import DenseCRF, PermutohedralLattice, dense_crf, threads
from mmwsss.registry import REFINERS

BACKENDS = pytest.mark.parametrize('backend', ['numba', 'torch'])
Scene = tuple[torch.Tensor, torch.Tensor]


def brute_force(image: torch.Tensor, probabilities: torch.Tensor, settings: DenseCRF) -> torch.Tensor:
    """Dense kernels including the point itself, normalised symmetrically; float64."""
    channels, height, width = probabilities.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    position = torch.stack((x, y), dim=-1).reshape(-1, 2).double()
    colour = image.double().flatten(1).T
    features = {
        settings.gaussian_weight: position / settings.gaussian_xy,
        settings.bilateral_weight: torch.cat(
            (position / settings.bilateral_xy, colour / settings.bilateral_rgb), dim=1
        ),
    }
    unary = probabilities.double().clamp(settings.min_probability, 1).log().flatten(1).T
    q = unary.softmax(dim=1)
    for _ in range(settings.iterations):
        message = unary
        for weight, feature in features.items():
            kernel = torch.exp(-0.5 * torch.cdist(feature, feature) ** 2)
            scale = kernel.sum(dim=1, keepdim=True).rsqrt()
            message = message + weight * scale * (kernel @ (scale * q))
        q = message.softmax(dim=1)
    return q.T.reshape(channels, height, width)


def random_scene(classes: int, height: int = 12, width: int = 16, batch: int = 1, seed: int = 0) -> Scene:
    """Images (B, 3, H, W) of two regions of different colour and noisy maps (B, C, H, W) that lean towards them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((batch, 3, height, width), 60.0)
    images[..., width // 2 - 1 :] = 180
    images += torch.randn(images.shape, generator=generator)
    logits = torch.randn(batch, classes, height, width, generator=generator)
    logits[:, 0, :, : width // 2 - 1] += 1
    logits[:, classes // 2, :, width // 2 - 1 :] += 1
    return images.round().clamp(0, 255), logits.softmax(dim=1)


@pytest.fixture
def scene() -> Scene:
    return random_scene(3)


@BACKENDS
@pytest.mark.parametrize('iterations', [1, 5])
def test_mean_field_is_close_to_the_dense_one(scene: Scene, iterations: int, backend: str) -> None:
    crf = DenseCRF(iterations=iterations, bilateral_xy=8, bilateral_rgb=6, backend=backend)
    (out,), exact = crf(*scene).double(), brute_force(scene[0][0], scene[1][0], crf)
    assert (out - exact).abs().mean() < 0.03
    assert (out.argmax(0) == exact.argmax(0)).double().mean() > 0.97
    unrefined = scene[1][0].double()
    assert (out - exact).abs().mean() < 0.2 * (unrefined - exact).abs().mean()


@BACKENDS
def test_regions_become_pure(scene: Scene, backend: str) -> None:
    (mask,), (before,) = DenseCRF(backend=backend)(*scene).argmax(dim=1), scene[1].argmax(dim=1)
    truth = (torch.arange(16) >= 7).long().expand(12, 16)
    assert (mask == truth).float().mean() > 0.97 > (before == truth).float().mean()


@pytest.mark.parametrize('classes', range(1, 41))
def test_backends_agree_for_any_number_of_classes(classes: int) -> None:
    scene = random_scene(classes, 9, 11, seed=classes)
    ours, plain = (DenseCRF(iterations=3, backend=backend)(*scene) for backend in ('numba', 'torch'))
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=0)
    torch.testing.assert_close(ours.sum(dim=1), torch.ones(1, 9, 11))


@pytest.mark.parametrize('size', [(1, 1), (1, 70), (45, 61)])
@pytest.mark.parametrize('constant', [False, True])
def test_backends_agree_for_any_image(size: tuple[int, int], constant: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (1, 3, *size), generator=generator, dtype=torch.uint8)
    if constant:
        images[:] = 200
    maps = torch.randn(1, 4, *size, generator=generator).softmax(dim=1)
    ours, plain = (DenseCRF(backend=backend)(images, maps) for backend in ('numba', 'torch'))
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=0)


@BACKENDS
def test_a_batch_is_its_images_one_by_one(backend: str) -> None:
    images, maps = random_scene(5, batch=4)
    labels = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]).float()
    crf = DenseCRF(backend=backend, iterations=4)
    for given in (None, labels):
        out = crf(images, maps, given)
        single = [
            crf(images[i : i + 1], maps[i : i + 1], None if given is None else given[i : i + 1]) for i in range(4)
        ]
        torch.testing.assert_close(out, torch.cat(single), atol=1e-5, rtol=0)


@BACKENDS
def test_absent_classes_take_no_part(backend: str) -> None:
    images, maps = random_scene(7, 20, 24)
    maps[:, [2, 5]] = 0
    maps /= maps.sum(dim=1, keepdim=True)
    labels = torch.tensor([[1.0, 0, 1, 1, 0, 1]])
    crf = DenseCRF(backend=backend)
    out, full = crf(images, maps, labels), crf(images, maps)
    assert (out[:, [2, 5]] == 0).all()
    # in the full result an absent class keeps a little of its least probability, 1e-5
    torch.testing.assert_close(out, full, atol=1e-3, rtol=0)
    chosen = [0, 1, 3, 4, 6]
    torch.testing.assert_close(out[:, chosen], crf(images, maps[:, chosen]), atol=1e-6, rtol=0)


@BACKENDS
def test_labels_of_all_channels_and_of_none(backend: str) -> None:
    images, maps = random_scene(3, batch=2)
    out = DenseCRF(backend=backend)(images, maps, torch.tensor([[0, 0, 0], [0, 1, 0]]))
    assert (out[0] == 0).all()
    assert (out[1, 1] == 1).all()
    assert (out[1, [0, 2]] == 0).all()
    none = DenseCRF(backend=backend)(images, maps, torch.zeros(2, 3))
    assert torch.equal(none, torch.zeros_like(maps))


@BACKENDS
def test_classes_can_be_permuted(scene: Scene, backend: str) -> None:
    images, maps = scene
    order = torch.tensor([2, 0, 1])
    crf = DenseCRF(backend=backend)
    torch.testing.assert_close(crf(images, maps[:, order]), crf(images, maps)[:, order], atol=1e-5, rtol=0)


@BACKENDS
def test_result_is_a_distribution_for_any_input_type(scene: Scene, backend: str) -> None:
    images, maps = scene
    crf = DenseCRF(iterations=2, backend=backend)
    out = crf(images, maps)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.sum(dim=1), torch.ones(1, 12, 16))
    assert torch.equal(crf(images.byte(), maps.double().requires_grad_()), out)
    strided = maps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(crf(images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), strided), out)


@BACKENDS
def test_without_steps_or_weights_the_maps_stay(backend: str) -> None:
    images, maps = torch.randint(0, 256, (1, 3, 5, 4)), torch.rand(1, 3, 5, 4).softmax(dim=1)
    for settings in (dict(iterations=0), dict(gaussian_weight=0, bilateral_weight=0)):
        torch.testing.assert_close(DenseCRF(**settings, backend=backend)(images, maps), maps)


@pytest.mark.parametrize('kernel', ['gaussian_weight', 'bilateral_weight'])
def test_a_kernel_of_weight_zero_is_left_out(scene: Scene, kernel: str) -> None:
    gone, tiny = ({b: DenseCRF(**{kernel: w}, backend=b)(*scene) for b in ('numba', 'torch')} for w in (0, 1e-9))
    for backend in gone:
        torch.testing.assert_close(gone[backend], tiny[backend], atol=1e-5, rtol=0)
    torch.testing.assert_close(gone['numba'], gone['torch'], atol=1e-5, rtol=0)
    assert (gone['numba'] - DenseCRF()(*scene)).abs().max() > 1e-3


@BACKENDS
def test_zero_probabilities_stay_finite(backend: str) -> None:
    maps = torch.zeros(1, 2, 4, 4)
    maps[:, 0] = 1
    out = DenseCRF(backend=backend)(torch.zeros(1, 3, 4, 4), maps)
    assert out.isfinite().all()
    assert (out[:, 0] > 0.99).all()


def test_channel_order(scene: Scene) -> None:
    images = torch.randint(0, 256, scene[0].shape)
    flipped = DenseCRF(channel_order='bgr')(images.flip(1), scene[1])
    assert torch.equal(flipped, DenseCRF()(images, scene[1]))
    assert not torch.equal(flipped, DenseCRF()(images.flip(1), scene[1]))


def test_the_registry_builds_it(scene: Scene) -> None:
    crf = REFINERS.build(dict(type='DenseCRF', iterations=2))
    assert torch.equal(crf(*scene), dense_crf(*scene, iterations=2))


def test_threads_do_not_disturb_each_other() -> None:
    scenes = [random_scene(4, 50 + i, 60, seed=i) for i in range(4)]
    before = torch.get_num_threads()
    expected = [DenseCRF()(*scene) for scene in scenes]
    try:
        torch.set_num_threads(3)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda scene: DenseCRF()(*scene), scenes * 3))
    finally:
        torch.set_num_threads(before)
    for result, once in zip(results, expected * 3):
        assert torch.equal(result, once), 'the number of threads and of callers changes nothing'


@pytest.mark.skipif('fork' not in multiprocessing.get_all_start_methods(), reason='needs fork')
def test_forked_workers_have_threads_of_their_own() -> None:
    scene = random_scene(3, 60, 60)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = DenseCRF(iterations=2)(*scene)
        assert threads._pool.cache_info().currsize == 1
        queue = multiprocessing.get_context('fork').Queue()
        worker = multiprocessing.get_context('fork').Process(target=_refine, args=(scene, queue), daemon=True)
        worker.start()
        result = queue.get(timeout=60)
        worker.join(timeout=60)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(result, expected.numpy())


def _refine(scene: Scene, queue: multiprocessing.Queue) -> None:
    # tensor kernels with OpenMP threads do not survive a fork, so the worker sets the number as a data loader does
    torch.set_num_threads(1)
    threads.torch.get_num_threads = lambda: 2
    queue.put(DenseCRF(iterations=2)(*scene).numpy())


def test_errors(scene: Scene) -> None:
    images, maps = scene
    with pytest.raises(ValueError, match=r'images \(1, 3, 12, 16\) and maps \(1, 3, 12, 15\) differ in size'):
        DenseCRF()(images, maps[..., 1:])
    with pytest.raises(ValueError, match='with the same B'):
        DenseCRF()(images, maps.repeat(2, 1, 1, 1))
    with pytest.raises(ValueError, match='5 image labels do not fit maps of 3 channels'):
        DenseCRF()(images, maps, torch.ones(1, 5))
    with pytest.raises(ValueError, match="backend 'cpp' is none of"):
        DenseCRF(backend='cpp')(images, maps)
    with pytest.raises(ValueError, match="channel_order 'gbr' is none of rgb, bgr"):
        DenseCRF(channel_order='gbr')(images, maps)
    with pytest.raises(ValueError, match='min_probability is 0; it has to be positive'):
        DenseCRF(min_probability=0)(images, maps)


def test_numba_is_imported_late_and_its_absence_explained() -> None:
    code = (
        'import sys, mmwsss.register_all, mmwsss.refiners as r, torch\n'
        'assert "numba" not in sys.modules\n'
        'sys.modules["numba"] = None\n'
        'maps = torch.full((1, 2, 3, 3), 0.5)\n'
        'r.DenseCRF(backend="torch")(torch.zeros(1, 3, 3, 3), maps)\n'
        'r.DenseCRF()(torch.zeros(1, 3, 3, 3), maps)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1].startswith('ImportError: the lattice on the CPU needs numba')
    assert "install it or set backend='torch'" in done.stderr


@BACKENDS
@pytest.mark.parametrize('settings', [(3, 1, 4, 67, 3), (3, 3, 10, 80, 13)])
def test_against_pydensecrf(settings: tuple[float, ...], backend: str) -> None:
    densecrf = pytest.importorskip('pydensecrf.densecrf')
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(1, 3, 8, 10, generator=generator) * 255
    images = torch.nn.functional.interpolate(small, (60, 80), mode='bicubic').clamp(0, 255).byte()
    logits = torch.randn(1, 6, 7, 9, generator=generator)
    maps = torch.nn.functional.interpolate(logits * 2, (60, 80), mode='bilinear').softmax(dim=1)
    weight, xy, bilateral_weight, bilateral_xy, rgb = settings

    oracle = densecrf.DenseCRF2D(80, 60, 6)
    oracle.setUnaryEnergy(np.ascontiguousarray(-maps[0].log().flatten(1).numpy()))
    oracle.addPairwiseGaussian(sxy=xy, compat=weight)
    pixels = np.ascontiguousarray(images[0].permute(1, 2, 0).numpy())
    oracle.addPairwiseBilateral(sxy=bilateral_xy, srgb=rgb, rgbim=pixels, compat=bilateral_weight)
    expected = torch.tensor(np.array(oracle.inference(10))).reshape(6, 60, 80)

    (out,) = DenseCRF(10, *settings, min_probability=1e-30, backend=backend)(images, maps)
    assert (out - expected).abs().mean() < 1e-4
    assert (out.argmax(0) == expected.argmax(0)).float().mean() >= 0.999


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(iterations=-1), 'iterations is -1'),
        (dict(gaussian_xy=0), 'gaussian_xy is 0'),
        (dict(channel_order='hsv'), "channel_order 'hsv'"),
        (dict(backend='c'), "backend 'c'|backend is 'c'"),
    ],
)
def test_settings_are_checked_when_built(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseCRF(**settings)


@pytest.mark.parametrize('backend', ['torch', 'numba'])
def test_inputs_that_do_not_fit_are_refused(backend: str) -> None:
    images, maps = torch.zeros(2, 3, 4, 5), torch.full((2, 2, 4, 5), 0.5)
    crf = DenseCRF(backend=backend)
    for wrong in ((images[:, :1], maps), (images[:1], maps), (images, maps, torch.ones(1, 2))):
        with pytest.raises(ValueError, match=r'images|labels'):
            crf(*wrong)
    assert crf(images[:0], maps[:0]).shape == (0, 2, 4, 5)


@pytest.mark.parametrize('backend', ['torch', 'numba'])
def test_lattice_refuses_values_of_other_points(backend: str) -> None:
    lattice = PermutohedralLattice(torch.rand(10, 2), backend=backend)
    with pytest.raises(ValueError, match='do not fit a lattice'):
        lattice.filter(torch.rand(5, 3))


def test_a_repeated_image_is_refined_like_a_single_one() -> None:
    images = torch.randint(0, 256, (2, 3, 12, 15))[[0, 0, 1, 0]]
    maps = torch.rand(4, 3, 12, 15).softmax(dim=1)
    alone = torch.cat([DenseCRF()(image[None], part[None]) for image, part in zip(images, maps)])
    torch.testing.assert_close(DenseCRF()(images, maps), alone, atol=1e-6, rtol=0)
