"""Write the segmentation network of a config and a checkpoint as ONNX, or with --format pt2 for torch.export.load.

The file maps a batch of images (B, 3, H, W), float32 RGB in 0..255, to logits (B, C, H, W); B, H and W are free. The
normalisation is inside; resizing is not, see size and resize in the metadata of the file and docs/inference.md.

Example: python tools/deployment/export_onnx.py vitpcm_voc12mini work_dirs/vitpcm_voc12mini --out vitpcm.onnx
"""

from __future__ import annotations

import argparse

from mmengine.registry import init_default_scope

from mmwsss.apis import launch
from mmwsss.apis.image_loading import test_dataset
from mmwsss.apis.inferencer import class_metainfo
from mmwsss.apis.models import load_model
from mmwsss.deployment import OPSET, export_onnx, save_program


def parse_args() -> argparse.Namespace:
    """Arguments; the checkpoint may also be a work dir."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or a work dir whose latest checkpoint is taken')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write, .onnx or .pt2')
    parser.add_argument('--format', choices=['onnx', 'pt2'], default='onnx', help=f'ONNX of opset {OPSET}, or pt2')
    args = parser.parse_args()
    if not args.out.endswith(f'.{args.format}'):
        parser.error(f'--out {args.out} has to end in .{args.format}; --format chooses between onnx and pt2')
    return args


def main() -> None:
    """Read the arguments, export, say how close the file comes to the network."""
    args = parse_args()
    checkpoint = launch.find_checkpoint(args.checkpoint)
    cfg = launch.load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmwsss'))
    model, content = load_model(cfg, checkpoint, 'cpu')
    notes = dict(classes=class_metainfo(cfg, content, model)[0], pipeline=test_dataset(cfg).pipeline)
    if args.format == 'pt2':
        difference, runner = save_program(model, args.out, **notes), 'torch.export'
    else:
        difference, runner = export_onnx(model, args.out, **notes), 'onnxruntime'
    told = 'not compared, onnxruntime is not installed'
    if difference is not None:
        told = f'{runner} differs from torch by at most {difference:.1e} at two sizes'
    print(f'{args.out}: {len(notes["classes"])} classes; {told}')


if __name__ == '__main__':
    launch.run_cli(main)
