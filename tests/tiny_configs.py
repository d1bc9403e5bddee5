"""Shipped configs at a size that trains in a second: the same classes and options, a narrow network, small images."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict
from PIL import Image

import mmwsss  # noqa: F401
from mmwsss.models.backbones.token_vit import ARCHITECTURES
from mmwsss.registry import DATASETS

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / 'configs'
CANONICAL = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name not in ('_base_', 'pipelines'))
SHORT = sorted(CONFIGS.glob('*.py'))

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
STEM = dict(stem_channels=8, channels=(16, 16, 16), depths=(1, 1, 1), groups=4)  # of the hybrid, stride 16
HIDDEN, PATCHES, BATCH = 4, 4, 4
PYRAMID_STRIDE = 8  # images of networks of stages are PATCHES times this
ROWS = 8  # of the buffers in which thresholds are searched
HEADS = ('head', 'aux_head', 'decode_head', 'auxiliary_head')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
TAPS = (1, 2, 3)  # features that SEAM and the affinity network read unless their config says others
# Stages of the CNNs of PMM, which have no small form, and what stands in for them.
FIXED_WIDTHS = {'ResNet38d': [256, 512, 1024, 4096]}
FIXED_WIDTHS |= {kind: [256, 512, 1024, 2048] for kind in ('ScaleNet', 'mmpretrain.Res2Net')}
SMALL_RESNET = dict(
    type='ResNetV1c', num_stages=4, out_indices=(0, 1, 2, 3), strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)
)
_NUMBER = itertools.count()


def load_config(path: str | Path) -> Config:
    """The config at ``path`` as it is in the file, to change at will; no file is read twice for the same variables."""
    variables = tuple(sorted(item for item in os.environ.items() if item[0].startswith('MMWSSS_')))
    return copy.deepcopy(_parsed(Path(path), variables))


@cache
def _parsed(path: Path, variables: tuple[tuple[str, str], ...]) -> Config:
    cfg = Config.fromfile(path)
    # A runner writes its config many times, and to lay it out takes longer than a tiny training. Config.fromfile loses
    # this setting.
    return Config(cfg.to_dict(), cfg.text, cfg.filename, cfg.env_variables, format_python_code=False)


def tiny_config(path: str | Path, data_root: str | Path, work_dir: str | Path, **sizes) -> Config:
    """The config at ``path`` with a network of two blocks, images of about four patches a side and the data of
    ``write_data``; ``sizes`` go to :func:`shrink_data`."""
    cfg = load_config(path)
    img_size, patch_size = input_size(cfg)
    scale = PATCHES * patch_size / img_size
    shrink_model(cfg.model)
    shrink_views(cfg.model.get('test_cfg') or {}, scale, patch_size)
    for name in ('threshold', 'aux_threshold'):
        if 'size' in cfg.model.get(name, {}):
            cfg.model[name].update(size=shrunk(cfg.model[name].size, scale, patch_size), rows=ROWS)
    shrink_data(cfg, str(data_root), scale, patch_size, **sizes)
    shorten(cfg)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'tiny_{next(_NUMBER)}'
    cfg.visualizer.name = cfg.experiment_name  # visualizers are shared by name
    cfg.log_level = 'ERROR'
    return cfg


def shorten(cfg: Config) -> None:
    """Train for two iterations, in the second of which everything is on that is ever on, and validate then."""
    model, length = cfg.model, cfg.train_cfg.max_iters
    if model.get('warmup_iters', length) < length:
        model.warmup_iters = 0  # the index of the last iteration of the warm-up
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    if 'val_begin' in cfg.train_cfg:
        cfg.train_cfg.val_begin = 1
    for hook in cfg.get('custom_hooks', []):
        if hook.type == 'CyclicPseudoMaskHook':
            hook.update(at=[1], num_workers=0, workers=0)


def is_pyramid(model: Config) -> bool:
    """Whether the backbone has stages of growing width (ResNet, Swin) instead of equal blocks."""
    return 'img_size' not in model.backbone


def input_size(cfg: Config) -> tuple[int, int]:
    """Side of the images that the network is built for, and of the patch that becomes one cell of its output."""
    if is_pyramid(cfg.model):
        crops = [step.get('size', step.get('crop_size')) for step in cfg.train_dataloader.dataset.pipeline]
        (side,) = {crop if isinstance(crop, int) else crop[0] for crop in crops if crop is not None}
        return side, PYRAMID_STRIDE
    return cfg.model.backbone.img_size, cfg.model.backbone.patch_size


def shrink_model(model: Config) -> None:
    """Make the network tiny and keep everything else; widths are set to fit, so :func:`widths` checks them before."""
    if is_pyramid(model):
        shrink_pyramid(model)
        return
    backbone = model.backbone
    backbone.arch = dict(ARCH)
    backbone.img_size = PATCHES * backbone.patch_size
    backbone.init_cfg = None
    if isinstance(backbone.get('stem'), dict):
        backbone.stem.update(STEM)
    if backbone.get('num_trainable_blocks') is not None:
        backbone.num_trainable_blocks = min(backbone.num_trainable_blocks, ARCH['num_layers'])
    width = ARCH['embed_dims']
    if model.get('neck') is not None:
        model.neck.update(in_channels=width, hidden=HIDDEN)
        width = 2 * HIDDEN * len(model.neck.directions)
    for name in HEADS:
        if model.get(name) is not None:
            shrink_head(model[name], ARCH['embed_dims'] if reads_tokens(model, name) else width)
    if 'out_indices' in backbone:
        backbone.out_indices = list(range(len(backbone.out_indices)))
    if 'start_layer' in model.get('test_cfg', {}):
        model.test_cfg.start_layer = min(model.test_cfg.start_layer, ARCH['num_layers'] - 1)


def reads_tokens(model: Config, head: str) -> bool:
    """Whether this head reads what the backbone says, not the neck."""
    return model.type == 'APC' and head == 'decode_head'


def shrink_head(head: Config, in_channels: int) -> None:
    """A head for features of ``in_channels``, few of its own."""
    many = isinstance(head.in_channels, (list, tuple))
    head.in_channels = [in_channels] * len(head.in_channels) if many else in_channels
    if 'embed_dims' in head:  # a transformer, as wide as it says it is
        head.update(channels=in_channels, embed_dims=in_channels, num_heads=ARCH['num_heads'])
    elif 'channels' in head:
        head.channels = HIDDEN


def shrink_pyramid(model: Config) -> None:
    """A ResNet or Swin transformer of few blocks and channels, and heads that fit it."""
    base, small = 4, PATCHES * PYRAMID_STRIDE
    if 'size' in model.data_preprocessor:
        model.data_preprocessor.size = (small, small)
    model.backbone.init_cfg = None
    if model.backbone.type in FIXED_WIDTHS:  # they have tests of their own, what reads their features is meant here
        model.backbone = ConfigDict(SMALL_RESNET)
    if 'depths' in model.backbone:
        model.backbone.update(embed_dims=base, depths=[1] * 4, num_heads=[1] * 4)
    else:
        model.backbone.update(depth=18, stem_channels=base, base_channels=base)
    stages = [base * 2**stage for stage in range(4)]
    for head in (model[name] for name in HEADS if model.get(name) is not None):
        head.in_channels = read_stages(model, head, stages)
        if 'channels' in head:
            head.channels = base
        if 'c1_in_channels' in head:
            head.update(c1_in_channels=base, c1_channels=base)


def read_stages(model: Config, head: Config, stages: list[int]) -> int | list[int]:
    """Channels of those of the ``stages`` that a head reads."""
    index = head.get('in_index', model.get('in_index', TAPS))
    return stages[index] if isinstance(index, int) else [stages[i] for i in index]


def shrink_views(test_cfg: Config, scale: float, grid: int) -> None:
    """Scale the crops of a prediction, and the images that its views are made of, as the data."""
    views = test_cfg.get('views') or {}
    for key in ('crop_size', 'stride', 'base'):
        if views.get(key) is not None:
            views[key] = shrunk(views[key], scale, grid)
    if test_cfg.get('mode') == 'slide':
        test_cfg.update({key: shrunk(test_cfg[key], scale, grid) for key in ('crop_size', 'stride')})


def shrink_data(cfg: Config, data_root: str, scale: float, grid: int, num_workers: int = 0) -> None:
    """Scale every image size of the pipelines to multiples of ``grid``, and read few images a time."""
    for loader in (cfg[name] for name in LOADERS if name in cfg):
        loader.dataset.data_root = data_root
        prefix = loader.dataset.get('data_prefix', {})
        if Path(prefix.get('seg_map_path') or '').is_absolute():  # exported masks: the true ones do as well
            prefix.seg_map_path = DATASETS.get(loader.dataset.type).DATA_PREFIX['seg_map_path'] or 'SegmentationClass'
        loader.update(num_workers=num_workers, persistent_workers=num_workers > 0)
        for step in loader.dataset.pipeline:
            for key in ('size', 'view_2_size', 'crop_size', 'scale', 'long_range'):
                if key in step:
                    step[key] = shrunk(step[key], scale, grid)
    cfg.train_dataloader.batch_size = BATCH
    for step in cfg.get('test_pipeline', []):  # what mmseg.apis reads
        if 'size' in step:
            step.size = shrunk(step.size, scale, grid)


def shrunk(size: int | tuple[int, ...], scale: float, grid: int) -> int | tuple[int, ...]:
    """``size`` times ``scale`` as a multiple of ``grid``."""
    if isinstance(size, int):
        return max(round(size * scale / grid), 1) * grid
    return tuple(shrunk(side, scale, grid) for side in size)


def widths(cfg: Config) -> dict[str, tuple[int | list[int], int | list[int]]]:
    """Channels that a part of the configured model expects, and those it gets."""
    model = cfg.model
    backbone, neck = model.backbone, model.get('neck')
    heads, found = {name: model[name] for name in HEADS if model.get(name) is not None}, {}
    if is_pyramid(model):
        stages = stage_widths(backbone)
        for name, head in heads.items():
            expected = head.in_channels
            found[name] = expected if isinstance(expected, int) else [*expected], read_stages(model, head, stages)
            if 'c1_in_channels' in head:
                found['low level'] = head.c1_in_channels, stages[0]
        return found
    width = tokens = ARCHITECTURES[backbone.arch]['embed_dims']
    if neck is not None:
        found['neck'] = neck.in_channels, width
        width = 2 * neck.hidden * len(neck.directions)
    for name, head in heads.items():
        given = tokens if reads_tokens(model, name) else width
        found[name] = head.in_channels, given
        if not isinstance(head.in_channels, int):
            found[name] = [*head.in_channels], [given] * len(model.get('in_index', head.in_channels))
    return found


def stage_widths(backbone: Config) -> list[int]:
    """Channels of the four stages of a ResNet, Swin transformer or CNN of PMM."""
    if backbone.type in FIXED_WIDTHS:
        return FIXED_WIDTHS[backbone.type]
    first = backbone.embed_dims if 'depths' in backbone else 64 * (4 if backbone.depth >= 50 else 1)
    return [first * 2**stage for stage in range(4)]


def classes_of(cfg: Config) -> tuple[str, ...]:
    """Classes of the configured data set, background first."""
    dataset = cfg.train_dataloader.dataset
    own = dataset.get('metainfo') or DATASETS.get(dataset.type).METAINFO
    return tuple(own['classes'])


def write_data(root: Path, kind: str, train: int = 8, val: int = 2, size: int = 32) -> Path:
    """Write a few images for the data set class ``kind`` below ``root`` and return its data root.

    Shapes come from their generator, the others are coloured rectangles with masks, in the layouts of VOC and COCO.
    """
    out = root / kind
    if out.is_dir():
        return out
    if kind == 'ShapesDataset':
        shapes_tool().generate(out, train=train, val=val, close_ups=train, size=48, progress=False)
        return out
    if kind == 'WeakSegDataset':
        write_own_data(out, train, val, size)
        return out
    classes = DATASETS.get(kind).METAINFO['classes']
    coco = kind == 'WeakCOCODataset'
    lists: dict[str, dict[str, list[str]]] = {'train': {}, 'val': {}}
    for split, index in [('train', i) for i in range(train)] + [('val', i) for i in range(val)]:
        name = f'{split}_{index}'
        image, mask = rectangles(np.random.default_rng([index, len(split)]), len(classes), size)
        lists[split][name] = [classes[label] for label in np.unique(mask) if 0 < label < len(classes)]
        images = out / (f'{split}2014' if coco else 'JPEGImages')
        folders = [f'SegmentationClass/{split}2014'] if coco else ['SegmentationClass', 'SegmentationClassAug']
        for folder in [images, *(out / folder for folder in folders)]:
            folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(images / f'{name}.jpg')
        for folder in folders:
            Image.fromarray(mask).save(out / folder / f'{name}.png')
    if coco:
        for folder in ('ImageSets', 'ImageLabels'):
            (out / folder).mkdir()
        for split, labels in lists.items():
            (out / 'ImageSets' / f'{split}2014.txt').write_text('\n'.join(labels))
            (out / 'ImageLabels' / f'{split}2014.json').write_text(json.dumps(labels))
        return out
    (out / 'ImageSets' / 'Segmentation').mkdir(parents=True)
    for split, names in {**lists, 'trainaug': lists['train']}.items():
        (out / 'ImageSets' / 'Segmentation' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return out


def write_own_data(out: Path, train: int, val: int, size: int) -> None:
    """Images, tags and lists as one brings them along, and masks of the second list."""
    for folder in ('images', 'masks'):
        (out / folder).mkdir(parents=True)
    names = ('background', 'cup', 'tea pot', 'spoon')
    tags = {}
    for split, count in (('train', train), ('val', val)):
        ids = [f'{split}_{index}' for index in range(count)]
        (out / f'{split}.txt').write_text('\n'.join(ids))
        for index, name in enumerate(ids):
            image, mask = rectangles(np.random.default_rng([index, count]), len(names), size)
            Image.fromarray(image).save(out / 'images' / f'{name}.jpg')
            if split == 'val':
                Image.fromarray(mask).save(out / 'masks' / f'{name}.png')
            tags[name] = [names[label] for label in np.unique(mask) if 0 < label < len(names)]
    (out / 'classes.txt').write_text('\n'.join(names[1:]))
    (out / 'labels.json').write_text(json.dumps(tags))


def rectangles(rng: np.random.Generator, num_classes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image, uint8 (size, 3/4 size, 3), and its mask with one or two classes and an ignored border."""
    shape = (size, size * 3 // 4)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    mask = np.zeros(shape, dtype=np.uint8)
    for _ in range(int(rng.integers(1, 3))):
        y, x = rng.integers(0, size // 3, 2)
        label = int(rng.integers(1, num_classes))
        mask[y : y + size // 2, x : x + size // 3] = label
        image[mask == label] = (37 * label % 256, 91 * label % 256, 153 * label % 256)
    mask[0] = 255
    return image, mask


@cache
def shapes_tool():
    """The converter of the generated data set as a module."""
    path = REPOSITORY / 'tools' / 'dataset_converters' / 'shapes.py'
    spec = importlib.util.spec_from_file_location('shapes_converter', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def short_id(path: Path) -> str:
    """Name of a config in test ids."""
    return path.relative_to(CONFIGS).with_suffix('').as_posix()
