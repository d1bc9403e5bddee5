"""Convert a checkpoint of an affinity network of PMM (.pth) into a checkpoint that our configs load."""

import sys

import mmwsss  # noqa: F401  (first, it closes version gaps)
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils.official_checkpoints import read_pmm_checkpoint
from mmwsss.models.utils.pmm_affinity_weights import convert_pmm_affinity


def main() -> int:
    """Convert; returns the exit status."""
    return convert_command(__doc__, lambda path: convert_pmm_affinity(read_pmm_checkpoint(path)))


if __name__ == '__main__':
    sys.exit(main())
