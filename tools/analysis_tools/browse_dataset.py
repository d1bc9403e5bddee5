"""Write what a config's data pipeline yields as PNG panels: every view, its mask if any, its image labels.

Example: python tools/analysis_tools/browse_dataset.py configs/vitpcm_shapes.py --number 4
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image, ImageDraw
from rich.progress import track

from mmwsss.apis import launch
from mmwsss.registry import DATASETS
from mmwsss.utils.files import replacing

CAPTION_HEIGHT = 16
MASK_OPACITY = 0.6


def views_of(inputs: Any) -> dict[str, torch.Tensor]:
    """Named views, each (3, H, W), of a packed item's ``inputs``: a tensor, or a dict or sequence of tensors.

    Raises:
        TypeError: ``inputs`` is something else.
    """
    if isinstance(inputs, torch.Tensor):
        return {'image': inputs}
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, Sequence):
        return {f'view {index}': view for index, view in enumerate(inputs)}
    raise TypeError(f'inputs of a packed item must be a tensor, dict or sequence, got {type(inputs).__name__}')


def view_to_rgb(view: torch.Tensor) -> np.ndarray:
    """Picture uint8 (H, W, 3) in RGB of a view (3, H, W) in BGR, mmseg's order; float views are stretched to 0..255."""
    picture = view.detach().cpu().numpy().transpose(1, 2, 0)[..., ::-1]
    if picture.dtype == np.uint8:
        return np.ascontiguousarray(picture)
    picture = picture.astype(np.float64)
    if picture.min() < 0 or picture.max() > 255 or picture.max() <= 1:
        picture = (picture - picture.min()) / max(np.ptp(picture), 1e-12) * 255
    return picture.round().astype(np.uint8)


def paint_mask(picture: np.ndarray, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Picture uint8 (H, W, 3) with the class indices (H, W) painted over it; indices without colour become white."""
    colours = np.full((256, 3), 255, dtype=np.float64)
    colours[: len(palette)] = palette
    painted = (1 - MASK_OPACITY) * picture + MASK_OPACITY * colours[mask]
    return painted.round().astype(np.uint8)


def label_names(sample: Any, classes: Sequence[str]) -> str:
    """Names of the image labels of a data sample, classes with background first."""
    if 'image_labels' not in sample:
        return 'no image labels'
    names = [classes[int(index) + 1] for index in torch.nonzero(torch.as_tensor(sample.image_labels) > 0)]
    return ', '.join(names) or 'no class'


def panel(item: Mapping[str, Any], metainfo: Mapping[str, Any]) -> Image.Image:
    """One row of pictures for a packed item, captioned with the view's name and the names of the image labels."""
    sample = item['data_samples']
    mask = sample.gt_sem_seg.data[0].cpu().numpy() if 'gt_sem_seg' in sample else None
    pictures = []
    for name, view in views_of(item['inputs']).items():
        picture = view_to_rgb(view)
        pictures.append((name, picture))
        if mask is not None and mask.shape == picture.shape[:2]:
            pictures.append((f'{name} + mask', paint_mask(picture, mask, metainfo['palette'])))
    names = label_names(sample, metainfo['classes'])
    draw = ImageDraw.Draw(Image.new('RGB', (1, 1)))
    width = max(sum(picture.shape[1] for _, picture in pictures), int(draw.textlength(names)) + 8)
    height = max(picture.shape[0] for _, picture in pictures)
    canvas = Image.new('RGB', (width, height + 2 * CAPTION_HEIGHT), 'white')
    draw = ImageDraw.Draw(canvas)
    draw.text((4, 2), names, fill='black')
    left = 0
    for name, picture in pictures:
        draw.text((left + 4, CAPTION_HEIGHT + 2), name, fill='gray')
        canvas.paste(Image.fromarray(picture), (left, 2 * CAPTION_HEIGHT))
        left += picture.shape[1]
    return canvas


def browse(cfg: Config, output_dir: Path, phase: str = 'train', number: int | None = None) -> list[Path]:
    """Write a panel for each of the first ``number`` items of a phase's dataset; returns the files.

    Raises:
        UsageError: the config has no dataloader for the phase.
    """
    loader = cfg.get(f'{phase}_dataloader')
    if loader is None:
        raise launch.UsageError(f'{cfg.filename} has no {phase}_dataloader; choose another --phase')
    init_default_scope(cfg.get('default_scope', 'mmwsss'))
    dataset = DATASETS.build(loader.dataset)
    output_dir.mkdir(parents=True, exist_ok=True)
    count = len(dataset) if number is None else min(number, len(dataset))
    files = []
    for index in track(range(count), description=f'{phase}: {count} items'):
        item = dataset[index]
        stem = Path(item['data_samples'].metainfo.get('img_path', 'item')).stem
        path = output_dir / f'{index:05d}_{stem}.png'
        with replacing(path, durable=False) as temporary:
            panel(item, dataset.metainfo).save(temporary, format='PNG')
        files.append(path)
    return files


def parse_args() -> argparse.Namespace:
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('--output-dir', type=Path, default=Path('work_dirs/browse'), help='for the PNGs (%(default)s)')
    parser.add_argument('--phase', choices=('train', 'val', 'test'), default='train', help='dataset (%(default)s)')
    parser.add_argument('-n', '--number', type=int, help='items to show (all)')
    return parser.parse_args()


def main() -> None:
    """Read the arguments, write the panels."""
    args = parse_args()
    cfg = launch.load_config(args.config, args.cfg_options)
    files = browse(cfg, args.output_dir, args.phase, args.number)
    print(f'{len(files)} panels in {args.output_dir}')


if __name__ == '__main__':
    launch.run_cli(main)
