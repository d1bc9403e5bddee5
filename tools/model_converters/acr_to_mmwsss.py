"""Convert a released checkpoint of ACR (.pth) into a checkpoint that our configs load."""

import sys

import mmwsss  # noqa: F401  (first, it closes version gaps)
from mmwsss.apis.converting import convert_command
from mmwsss.models.utils.acr_weights import convert_acr, read_acr_checkpoint


def main() -> int:
    """Convert; returns the exit status."""
    return convert_command(__doc__, lambda path: convert_acr(read_acr_checkpoint(path)))


if __name__ == '__main__':
    sys.exit(main())
