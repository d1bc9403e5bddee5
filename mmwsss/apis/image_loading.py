"""Images through the test pipeline of a config, read ahead and sorted into batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from mmcv.transforms import Compose, LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmseg.datasets.transforms import LoadImageFromNDArray

from mmwsss.datasets.checks import Problem
from mmwsss.pseudo_labels.export_data import without_annotations
from mmwsss.registry import TRANSFORMS

from .errors import UsageError
from .image_sources import ImageSource, UnreadableImage, naming_unreadable

_LOADERS = ('test_dataloader', 'val_dataloader')
_WAITING_BATCHES = 8  # for as many, an image waits for others of its shape
T, R = TypeVar('T'), TypeVar('R')


class Request(NamedTuple):
    """An image to read: its place in the input and the image labels (K,) given for it."""

    position: int
    source: ImageSource
    labels: np.ndarray | None


@dataclass
class LoadedImage:
    """One image on its way through the network.

    Args:
        packed: ``inputs`` (3, h, w) and ``data_samples`` of the pipeline; None where the image cannot be read.
        image: (H, W, 3) uint8 in BGR, of an image that is no local file.
        problem: why it cannot be read.
    """

    request: Request
    packed: dict[str, Any] | None = None
    image: np.ndarray | None = None
    problem: Problem | None = None

    @property
    def kind(self) -> tuple[torch.Size, bool]:
        """What images of one batch have in common: the shape of the input, and whether labels are known."""
        return self.packed['inputs'].shape, self.request.labels is not None


def test_dataset(cfg: Config) -> ConfigDict:
    """Config of the dataset that a model of ``cfg`` is tested on.

    Raises:
        UsageError: the config has none.
    """
    for name in _LOADERS:
        if cfg.get(name):
            dataset = cfg[name].dataset
            while 'dataset' in dataset:  # RepeatDataset and the like
                dataset = dataset['dataset']
            return dataset
    raise UsageError('the config has no test_dataloader with a pipeline to read images through')


class ImageLoader:
    """The test pipeline of ``cfg`` without masks, for files and for arrays.

    Raises:
        UsageError: the config has no such pipeline, or it does not begin by loading an image file.
    """

    def __init__(self, cfg: Config) -> None:
        steps = [TRANSFORMS.build(step) for step in without_annotations(test_dataset(cfg).pipeline)]
        if not steps or not isinstance(steps[0], LoadImageFromFile):
            raise UsageError('the test pipeline of the config has to begin with LoadImageFromFile')
        self.from_file = steps[0]
        self.from_array = LoadImageFromNDArray(to_float32=steps[0].to_float32)
        self.transform = Compose(steps[1:])

    def __call__(self, request: Request) -> LoadedImage:
        """Read one image; what cannot be read comes back with its ``problem``."""
        loaded, source = LoadedImage(request), request.source
        results = dict(img_id=source.name, seg_fields=[])
        if request.labels is not None:
            results['image_labels'] = request.labels
        try:
            if source.path is None:
                loaded.image = source.read()
                results = self.from_array(results | dict(img=loaded.image))
            else:
                with naming_unreadable(source):
                    results = self.from_file(results | dict(img_path=source.path))
        except UnreadableImage as error:
            loaded.problem = error.problem
        else:
            loaded.packed = self.transform(results)
        return loaded


def read_ahead(function: Callable[[T], R], entries: Iterable[T], workers: int, ahead: int) -> Iterator[R]:
    """Results of ``function`` in order, made by ``workers`` threads for at most ``ahead`` entries at a time."""
    if workers == 0:
        yield from map(function, entries)
        return
    pending: deque[Future] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix='images')
    try:
        for entry in entries:
            pending.append(pool.submit(function, entry))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batches(images: Iterable[LoadedImage], size: int) -> Iterator[list[LoadedImage]]:
    """Groups of at most ``size`` images of one kind; an image that cannot be read is one of its own.

    No image waits for more than a few batches of others, whose results would have to wait for it: then its group goes
    before it is full.
    """
    groups: dict[Any, list[LoadedImage]] = {}  # the one that was begun first comes first
    begun: dict[Any, int] = {}
    for number, image in enumerate(images, start=1):
        if image.packed is None:
            yield [image]
        else:
            group = groups.setdefault(image.kind, [])
            begun.setdefault(image.kind, number)
            group.append(image)
            if len(group) == size:
                del begun[image.kind]
                yield groups.pop(image.kind)
        oldest = next(iter(groups), None)
        if oldest is not None and number - begun[oldest] >= _WAITING_BATCHES * size - 1:
            del begun[oldest]
            yield groups.pop(oldest)
    yield from groups.values()
