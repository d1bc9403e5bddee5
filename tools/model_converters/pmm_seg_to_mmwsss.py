"""Convert a segmentation checkpoint of PMM, or ImageNet weights of its backbones, into one that our configs load."""

import argparse
import os
import sys

import torch

import mmwsss  # noqa: F401  (first, it closes version gaps)
from mmwsss.models.utils.official_checkpoints import read_pmm_checkpoint
from mmwsss.models.utils.pmm_seg_weights import convert_pmm_seg
from mmwsss.utils.files import replacing


def main() -> int:
    """Convert; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='.pth file of the official training')
    parser.add_argument('target', help='.pth file to write')
    args = parser.parse_args()
    try:
        state = convert_pmm_seg(read_pmm_checkpoint(args.source))
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    with replacing(args.target) as partial:
        torch.save(dict(state_dict=state, meta=dict(source=os.path.basename(args.source))), partial)
    print(f'{len(state)} tensors written to {args.target}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
