"""Affinity of grid cells from a trained network."""

from __future__ import annotations

import threading

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwsss.registry import MODELS, TASK_UTILS
from mmwsss.utils.seeding import seeded

_MOVING = threading.Lock()  # of the module, as a lock in the object could not be copied with a model


@TASK_UTILS.register_module()
class NetworkAffinity:
    """Affinity of the cells of images by an :class:`~mmwsss.models.segmentors.AffinityNetwork` (PSA; PMM's release).

    The network is on the device of the images it gets, in inference mode, and never trains.

    Args:
        config: path of the config that the network was trained with.
        checkpoint: path of its weights, or its work dir.

    Raises:
        ValueError: a file is missing, the config is of another model, or the weights do not belong to it.
    """

    def __init__(self, config: str, checkpoint: str) -> None:
        self.network = load_affinity_network(config, checkpoint)
        self.config = config

    @torch.no_grad()
    def __call__(self, images: Tensor, stride: int) -> Tensor:
        """Affinity of ``images`` (B, 3, H, W) RGB in 0..255 over cells of ``stride`` pixels.

        Images that fill no whole cells are padded after the normalisation, with the mean colour.

        Returns:
            (B N, B N) sparse CSR, see :func:`~mmwsss.refiners.affinity.pair_matrix`.

        Raises:
            ValueError: the network makes cells of another size, or an image has less than 5 cells a side.
        """
        with _MOVING:  # images of several threads may come from one refiner
            network = self.network.to(images.device)
        height, width = images.shape[-2:]
        pixels = F.pad(normalised(network, images), (0, -width % stride, 0, -height % stride))
        expected = tuple(side // stride for side in pixels.shape[-2:])
        with torch.autocast(images.device.type, enabled=False):
            matrix, size = network.affinity_matrix(pixels)
        if size != expected:
            raise ValueError(
                f'the network of {self.config} makes {size[0]} x {size[1]} cells of images of {height} x {width} '
                f'pixels, cells of {stride} would be {expected[0]} x {expected[1]}; set stride of the refiner'
            )
        return matrix


def load_affinity_network(config: str, checkpoint: str) -> nn.Module:
    """Network of ``config`` with the weights of ``checkpoint`` on the CPU, in inference mode and without gradients.

    Raises:
        ValueError: see :class:`NetworkAffinity`.
    """
    # Late, as these import the models, which import the refiners.
    from mmwsss.apis.launch import UsageError, find_checkpoint, load_config
    from mmwsss.apis.testing import load_weights, read_checkpoint

    try:
        cfg = load_config(config)
        path = find_checkpoint(checkpoint, 'checkpoint of NetworkAffinity')
        kind = MODELS.get(cfg.model.type) if 'model' in cfg else None
        if not hasattr(kind, 'affinity_matrix'):
            raise UsageError(f'config {config} is of no AffinityNetwork; name the config that one was trained with')
        with seeded(0):  # the weights drawn here are replaced, the caller's draws must not change
            network = MODELS.build(cfg.model)
        load_weights(network, read_checkpoint(path), path)
    except UsageError as error:
        raise ValueError(f'NetworkAffinity: {error}') from error
    return network.eval().requires_grad_(False)


def normalised(network: nn.Module, images: Tensor) -> Tensor:
    """``images`` (B, 3, H, W) RGB in 0..255 as ``network`` was trained on them, float32."""
    preprocessor = network.data_preprocessor
    images = images.float()
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    # A preprocessor that does not turn BGR files into RGB has the statistics in the order of the files.
    if not getattr(preprocessor, 'channel_conversion', False):
        images = images.flip(1)
    return images if mean is None else (images - mean) / std
