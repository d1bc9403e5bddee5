"""Convert a released checkpoint of CoSA (.pth, one network) into a checkpoint that our configs load."""

import argparse
import os
import sys

import torch

import mmwsss  # noqa: F401  (first, it closes version gaps)
from mmwsss.models.utils.cosa_weights import STREAMS, convert_cosa, read_cosa_checkpoint, with_streams
from mmwsss.utils.files import replacing


def main() -> int:
    """Convert; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='.pth file of the official training')
    parser.add_argument('target', help='.pth file to write')
    parser.add_argument(
        '--stream', choices=STREAMS, default='both', help='network(s) of ours that get the weights (default: both)'
    )
    args = parser.parse_args()
    try:
        official, details = read_cosa_checkpoint(args.source)
        state = with_streams(convert_cosa(official), args.stream)
    except (OSError, RuntimeError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    with replacing(args.target) as partial:
        torch.save(dict(state_dict=state, meta=dict(source=os.path.basename(args.source), **details)), partial)
    print(f'{len(state)} tensors written to {args.target}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
