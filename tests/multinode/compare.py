"""Compare the weights of two checkpoints; exit status 1 where they differ by more than ``TOLERANCE``."""

from __future__ import annotations

import sys

import torch

TOLERANCE = 1e-6


def main() -> int:
    """Print how far the weights of the two files on the command line are apart."""
    files = [torch.load(path, map_location='cpu', weights_only=False) for path in sys.argv[1:3]]
    first, second = (file['state_dict'] for file in files)
    if first.keys() != second.keys():
        print('the checkpoints hold different weights', file=sys.stderr)
        return 1
    largest = max(float((value.double() - second[name].double()).abs().max()) for name, value in first.items())
    print(f'iteration {files[0]["meta"]["iter"]}: {len(first)} weights, largest difference {largest:g}')
    return int(largest > TOLERANCE)


if __name__ == '__main__':
    sys.exit(main())
