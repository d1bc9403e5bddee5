"""Masks and maps of any images from a trained model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.progress import track
from torch import nn

from mmwsss.datasets.checks import Problem
from mmwsss.datasets.voc import voc_colour_map
from mmwsss.models.segmentors.weak_segmentor import WeakSegmentor
from mmwsss.registry import DATASETS

from .checkpoints import find_checkpoint
from .errors import UsageError
from .image_loading import ImageLoader, LoadedImage, Request, batches, read_ahead, test_dataset
from .image_sources import (
    ImageSource,
    image_sources,
    is_lazy,
    refuse_repeated_names,
    refuse_unreadable,
    unreadable,
)
from .image_tags import TagReader, tag_reader
from .launch import load_config
from .models import check_device, load_model, use_steps
from .prediction_files import PredictionWriter


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image (H, W), in arrays of numpy.

    Args:
        name: id of the image, see :class:`~mmwsss.apis.image_sources.ImageSource`.
        path: file or URL of the image; None for an array.
        segmentation: (H, W) int64 classes, decided without image labels whatever was given.
        maps: (C, H, W) float32 localization maps, C = K + 1 with the background in channel 0 or C = K without it, 0 for
            classes that given image labels exclude; None where the model makes none or they were not asked for.
        pseudo_mask: (H, W) int64 classes or 255 where the pseudo labeler ignores; None where the model makes none.
        scores: (K,) float32 image scores of the foreground classes; None where the model has none.
        labels: (K,) float32 image labels that were given; None without.
        predicted_labels: (K,) float32, 1 for the classes that the model takes as present by its scores; a pseudo
            labeler goes by these where there are no ``labels``.
        used_labels: whether ``maps`` and ``pseudo_mask`` were made with ``labels``.
    """

    name: str
    path: str | None
    segmentation: np.ndarray
    maps: np.ndarray | None = None
    pseudo_mask: np.ndarray | None = None
    scores: np.ndarray | None = None
    labels: np.ndarray | None = None
    predicted_labels: np.ndarray | None = None
    used_labels: bool = False


class WSSSInferencer:
    """Segmentation, localization maps and pseudo masks of images, from any trained model of this package or mmseg.

    Images go through the test pipeline of the config and through ``predict`` of the model, as in ``tools/test.py``.

    >>> inferencer = WSSSInferencer('vitpcm_voc12mini', 'work_dirs/vitpcm_voc12mini')  # doctest: +SKIP
    >>> inferencer('photos/', classes={'IMG_1': ['dog', 'person']}, out_dir='results')  # doctest: +SKIP

    Args:
        config: name of a shipped config (:func:`~mmwsss.apis.config_names.list_models`), path of one, or a ``Config``.
        weights: path or URL of a checkpoint, or a work dir, whose latest one is taken; by default ``load_from`` of the
            config.
        device: such as 'cpu' or 'cuda:1'; by default the GPU if there is one.
        cfg_options: settings of the config to override, by dotted keys.
        steps: pseudo labeler in the place of that of the model, as ``--steps`` of ``tools/generate_pseudo_labels.py``.
        batch_size: most images in one pass of the network; those whose network inputs have one shape share a pass.
        num_workers: threads that read images ahead, and as many that write results.

    Attributes:
        model: the network in evaluation mode.
        classes, palette: names and RGB colours of all classes, the background first.
        skipped: problems of the images that the last call left out.
        written: what ``predictions.json`` says of each image whose files the last call wrote.

    Raises:
        UsageError: config, weights or device cannot be used, or the model makes no masks.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        *,
        cfg_options: Mapping[str, Any] | None = None,
        steps: str | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
    ) -> None:
        if batch_size < 1 or num_workers < 0:
            raise UsageError(f'batch size {batch_size} and {num_workers} workers; expected at least 1 and 0')
        cfg = deepcopy(config) if isinstance(config, Config) else load_config(os.fspath(config), cfg_options)
        if isinstance(config, Config):
            cfg.merge_from_dict(dict(cfg_options or {}))
        init_default_scope(cfg.get('default_scope', 'mmwsss'))
        weights = cfg.get('load_from') if weights is None else os.fspath(weights)
        if weights is None:
            raise UsageError('no weights: name a checkpoint or a work dir, the config has no load_from')
        self.config = cfg
        self.checkpoint = find_checkpoint(weights, 'weights')
        self.device = check_device(device) if device else get_device()
        use_steps(cfg, steps)
        self.model, content = load_model(cfg, self.checkpoint, self.device)
        if not isinstance(self.model, BaseSegmentor):
            raise UsageError(f'{type(self.model).__name__} makes no masks; give the config of a segmentor')
        self.model.eval()
        self.classes, self.palette = class_metainfo(cfg, content, self.model)
        self.loader = ImageLoader(cfg)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.skipped: list[Problem] = []
        self.written: dict[str, dict] = {}

    @property
    def makes_pseudo_masks(self) -> bool:
        """Whether the model makes maps and pseudo masks, and image labels are of use to it."""
        return isinstance(self.model, WeakSegmentor)

    def __call__(
        self,
        images: Any,
        *,
        image_labels: Any = None,
        classes: Any = None,
        channel_order: str = 'bgr',
        out_dir: str | os.PathLike | None = None,
        maps: bool = True,
        skip_corrupt: bool = False,
        progress: bool = True,
    ) -> list[Prediction]:
        """Predictions of ``images`` in their order, all kept in memory; see :meth:`stream` for many.

        Args:
            images: path, folder, pattern, URL, array, ``PIL.Image`` or an iterable of these; see
                :func:`~mmwsss.apis.image_sources.image_sources`.
            image_labels, classes: true image labels, as vectors or by class names; see
                :func:`~mmwsss.apis.image_tags.tag_reader`.
            channel_order: of arrays, 'bgr' or 'rgb'.
            out_dir: write results there, see :class:`~mmwsss.apis.prediction_files.PredictionWriter`.
            maps: hand out localization maps, the largest part of a result.
            skip_corrupt: leave out images that cannot be read; ``skipped`` says which they were.
            progress: show a bar on a terminal.

        Raises:
            UsageError: an image cannot be read, which is checked for all local files of a list before the network runs;
                two images have one name and would be written to one file; or the labels do not fit images or model.
        """
        settings = dict(image_labels=image_labels, classes=classes, channel_order=channel_order, out_dir=out_dir)
        return list(self.stream(images, **settings, maps=maps, skip_corrupt=skip_corrupt, progress=progress))

    def stream(
        self,
        images: Any,
        *,
        image_labels: Any = None,
        classes: Any = None,
        channel_order: str = 'bgr',
        out_dir: str | os.PathLike | None = None,
        maps: bool = True,
        skip_corrupt: bool = False,
        progress: bool = False,
    ) -> Iterator[Prediction]:
        """One prediction after the other, as :meth:`__call__`; ``images`` may be an endless generator."""
        self.skipped, self.written = [], {}
        sources: Iterable[ImageSource] = image_sources(images, channel_order)
        total = None
        if not is_lazy(images):
            sources = list(sources)
            total = len(sources)
            if not skip_corrupt:
                refuse_unreadable(unreadable(sources), total)
            if out_dir is not None:
                refuse_repeated_names(sources)
        tags = tag_reader(None if total is None else sources, self.classes, image_labels, classes)
        self._check_tags(tags)
        requests = (
            Request(position, source, None if tags is None else tags(source)) for position, source in enumerate(sources)
        )
        console = Console(stderr=True)
        hidden = not (progress and console.is_terminal)
        with ExitStack() as stack:
            writer = None
            if out_dir is not None:
                writer = stack.enter_context(PredictionWriter(out_dir, self))
                self.written = writer.entries
            loaded = self._loaded(requests, skip_corrupt)
            predictions = self._in_order(loaded, maps, writer)
            yield from track(predictions, 'images', total=total, console=console, disable=hidden)

    def _check_tags(self, tags: TagReader | None) -> None:
        if tags is not None and not self.makes_pseudo_masks:
            raise UsageError(f'{type(self.model).__name__} makes no pseudo masks; leave out the image labels')
        if tags is not None and not self.model.test_cfg['use_image_labels']:
            raise UsageError('image labels are given, but model.test_cfg.use_image_labels is off')

    def _loaded(self, requests: Iterable[Request], skip_corrupt: bool) -> Iterator[LoadedImage]:
        for image in read_ahead(self.loader, requests, self.num_workers, 2 * self.batch_size):
            if image.problem is not None:
                if not skip_corrupt:
                    refuse_unreadable([image.problem], image.request.position + 1)
                self.skipped.append(image.problem)
            yield image

    def _in_order(
        self, images: Iterable[LoadedImage], maps: bool, writer: PredictionWriter | None
    ) -> Iterator[Prediction]:
        """Predictions by position; batches come in another order where shapes differ."""
        done: dict[int, Prediction | None] = {}
        following = 0
        for batch in batches(images, self.batch_size):
            for image, prediction in zip(batch, self._predict(batch, maps or writer is not None)):
                if writer is not None and prediction is not None:
                    writer.write(image, prediction)
                if not maps and prediction is not None:
                    prediction = replace(prediction, maps=None)
                done[image.request.position] = prediction
            while following in done:
                prediction = done.pop(following)
                following += 1
                if prediction is not None:
                    yield prediction

    @torch.no_grad()
    def _predict(self, batch: list[LoadedImage], maps: bool) -> list[Prediction | None]:
        """Predictions of a batch; None for an image that cannot be read, which is alone."""
        if batch[0].packed is None:
            return [None]
        with tempfile.TemporaryDirectory() as folder:
            if getattr(getattr(self.model, 'pseudo_labeler', None), 'needs_images', False):
                for image in batch:
                    _give_path(image, folder)
            samples = self.model.test_step(pseudo_collate([image.packed for image in batch]))
        return [self._prediction(image.request, sample, maps) for image, sample in zip(batch, samples)]

    def _prediction(self, request: Request, sample: SegDataSample, maps: bool) -> Prediction:
        source, scores, predicted = request.source, sample.get('image_scores'), None
        if scores is not None:
            predicted = self.model.presumed_labels(scores).float().cpu().numpy()
            scores = scores.float().cpu().numpy()
        return Prediction(
            name=source.name,
            path=source.path or (source.content if isinstance(source.content, str) else None),
            segmentation=_array(sample, 'pred_sem_seg')[0],
            maps=_array(sample, 'localization_maps') if maps and 'localization_maps' in sample else None,
            pseudo_mask=_array(sample, 'pseudo_mask')[0] if 'pseudo_mask' in sample else None,
            scores=scores,
            labels=request.labels,
            predicted_labels=predicted,
            used_labels=bool(sample.get('used_image_labels', False)),
        )


def _give_path(image: LoadedImage, folder: str) -> None:
    """Refiners read the image again from its path; one without gets a lossless file below ``folder``."""
    if image.image is not None:
        path = str(Path(folder, f'{image.request.position}.png'))
        cv2.imwrite(path, image.image)
        image.packed['data_samples'].set_metainfo(dict(img_path=path))


def _array(sample: SegDataSample, key: str) -> np.ndarray:
    data = sample.get(key).data.detach()
    return (data.float() if data.is_floating_point() else data.long()).cpu().numpy()


def class_metainfo(cfg: Config, content: Mapping[str, Any], model: nn.Module) -> tuple[list[str], list[list[int]]]:
    """Names and colours of the classes: those that the checkpoint was trained on, where they are those of the model,
    otherwise those of the config.

    Raises:
        UsageError: there are none, or not as many as the model has.
    """
    meta = (content.get('meta') or {}).get('dataset_meta') or {}
    if len(meta.get('classes') or ()) != model.num_classes:
        dataset = test_dataset(cfg)
        meta = {**getattr(DATASETS.get(dataset.type), 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    classes, expected = list(meta.get('classes') or ()), model.num_classes
    if len(classes) != expected:
        raise UsageError(
            f'the model has {expected} classes, but the config names {len(classes)}, and the checkpoint others; set '
            'test_dataloader.dataset.metainfo.classes'
        )
    palette = meta.get('palette') or voc_colour_map(len(classes))
    return classes, [list(colour) for colour in palette]
