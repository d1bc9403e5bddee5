"""COCO's instances as masks of classes, by any of the rules that circulate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .checks import DatasetError
from .coco import CLASSES
from .label_files import read_json

OVERLAPS = ('later', 'first', 'smaller')
CROWDS = ('class', 'ignore', 'skip')
IDS = ('contiguous', 'raw')
IGNORE_INDEX = 255


@dataclass(frozen=True)
class MaskRules:
    """What is painted where.

    Args:
        overlap: which annotation has a pixel that several cover: the 'later' one of the file, the 'first', or the
            'smaller' by its noted area (of equal areas the later).
        crowd: regions of crowds are of their 'class' like any object, 255 below all objects ('ignore'), or left out
            ('skip'); only with 'class' do they give image labels.
        ids: mask values are 1..80 in the order of the categories ('contiguous') or COCO's ids 1..90 ('raw').

    Raises:
        ValueError: an unknown value.
    """

    overlap: str = 'later'
    crowd: str = 'class'
    ids: str = 'contiguous'

    def __post_init__(self) -> None:
        for name, known in (('overlap', OVERLAPS), ('crowd', CROWDS), ('ids', IDS)):
            if getattr(self, name) not in known:
                raise ValueError(f'{name} has to be one of {", ".join(known)}, got {getattr(self, name)!r}')


@dataclass
class ImageInstances:
    """One image of an instances file and its annotations in the order of the file."""

    name: str
    height: int
    width: int
    annotations: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class InstancesFile:
    """Content of an instances file: images sorted by name, and place and name of each category id."""

    images: list[ImageInstances]
    places: dict[int, int]
    names: dict[int, str]

    def values(self, rules: MaskRules) -> dict[int, int]:
        """Mask value of each category id."""
        return self.places if rules.ids == 'contiguous' else {number: number for number in self.places}


def read_instances(path: str | Path) -> InstancesFile:
    """Read and check an instances file of COCO.

    Raises:
        DatasetError: it is missing or no instances file, its categories are not the 80 of COCO, an annotation is of an
            image or category that is not listed or has no area, or two images have the same name.
    """
    content = read_json(str(path))
    try:
        names = {category['id']: category['name'] for category in sorted(content['categories'], key=lambda c: c['id'])}
        if tuple(names.values()) != CLASSES[1:]:
            raise DatasetError(
                f'{path}: the categories are not the {len(CLASSES) - 1} of COCO in the order of their ids'
            )
        images = {
            image['id']: ImageInstances(Path(image['file_name']).stem, image['height'], image['width'])
            for image in content['images']
        }
        for annotation in content['annotations']:
            number = annotation['id']
            if not isinstance(annotation.get('area'), int | float):
                raise DatasetError(f'{path}: annotation {number} has no area')
            if annotation['category_id'] not in names:
                raise DatasetError(
                    f'{path}: annotation {number} is of category {annotation["category_id"]}, not listed'
                )
            if annotation['image_id'] not in images:
                raise DatasetError(
                    f'{path}: annotation {number} is of image {annotation["image_id"]}, which is not listed'
                )
            images[annotation['image_id']].annotations.append(annotation)
    except (KeyError, TypeError) as error:
        raise DatasetError(f'{path}: not a COCO instances file, {error!r} is missing or unknown') from error
    found = sorted(images.values(), key=lambda image: image.name)
    twice = sorted({first.name for first, second in itertools.pairwise(found) if first.name == second.name})
    if twice:
        raise DatasetError(f'{path}: several images are named {", ".join(twice[:3])} ({len(twice)} names)')
    return InstancesFile(found, {number: place for place, number in enumerate(names, start=1)}, names)


def class_mask(image: ImageInstances, values: dict[int, int], rules: MaskRules) -> np.ndarray:
    """Mask of one image, uint8 (H, W): 0 background, ``values`` by category id, 255 ignore.

    Raises:
        ImportError: pycocotools is not installed.
        DatasetError: an annotation has no segmentation that can be read; the message names it.
    """
    mask = np.zeros((image.height, image.width), dtype=np.uint8)
    for annotation in painting_order(image.annotations, rules):
        ignored = annotation.get('iscrowd') and rules.crowd == 'ignore'
        value = IGNORE_INDEX if ignored else values[annotation['category_id']]
        mask[_region(annotation, image)] = value
    return mask


def painting_order(annotations: Sequence[dict], rules: MaskRules) -> list[dict]:
    """Annotations that are painted, those at the bottom first."""
    kept = [one for one in annotations if not (one.get('iscrowd') and rules.crowd == 'skip')]
    if rules.overlap == 'first':
        kept.reverse()
    elif rules.overlap == 'smaller':
        kept.sort(key=lambda one: -one['area'])
    if rules.crowd == 'ignore':
        kept.sort(key=lambda one: not one.get('iscrowd'))
    return kept


def image_classes(image: ImageInstances, places: dict[int, int], rules: MaskRules) -> list[int]:
    """Class indices 1..80 of the annotations of an image, ascending; also of objects that others cover wholly."""
    counted = [one for one in image.annotations if rules.crowd == 'class' or not one.get('iscrowd')]
    return sorted({places[one['category_id']] for one in counted})


def _region(annotation: dict, image: ImageInstances) -> np.ndarray:
    """Pixels of an annotation, bool (H, W), as pycocotools rasters polygons and run lengths; lines have none."""
    from pycocotools import mask as rle  # an optional dependency

    try:
        segmentation = annotation['segmentation']
        if isinstance(segmentation, list):
            # Of two corners pycocotools would make a box: left, top, width, height.
            polygons = [polygon for polygon in segmentation if len(polygon) != 4]
            if segmentation and not polygons:
                return np.zeros((image.height, image.width), dtype=bool)
            encoded = rle.merge(rle.frPyObjects(polygons, image.height, image.width))
        elif isinstance(segmentation['counts'], list):
            encoded = rle.frPyObjects(segmentation, image.height, image.width)
        else:
            encoded = segmentation
        region = rle.decode(encoded).astype(bool)
    except Exception as error:  # whatever its C code says of malformed polygons
        raise DatasetError(f'{image.name}: annotation {annotation["id"]} cannot be drawn: {error!r}') from error
    if region.shape != (image.height, image.width):
        sizes = '{1} x {0} pixels, the image has {3} x {2}'.format(*region.shape, image.height, image.width)
        raise DatasetError(f'{image.name}: annotation {annotation["id"]} is for {sizes}')
    return region
