"""Convert a segmentation checkpoint of PMM, or ImageNet weights of its backbones, into one that our configs load."""

import sys

import mmwsss  # noqa: F401  (first, it closes version gaps)
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils.official_checkpoints import read_pmm_checkpoint
from mmwsss.models.utils.pmm_seg_weights import convert_pmm_seg


def main() -> int:
    """Convert; returns the exit status."""
    return convert_command(__doc__, lambda path: convert_pmm_seg(read_pmm_checkpoint(path)))


if __name__ == '__main__':
    sys.exit(main())
