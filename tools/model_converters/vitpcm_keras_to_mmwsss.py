"""Convert a released Keras checkpoint of ViT-PCM (.h5) into a checkpoint that our configs load."""

import argparse
import sys

import mmwsss  # noqa: F401  (first, it closes version gaps)
from mmwsss.apis.converting import save_converted
from mmwsss.models.utils.keras_vitpcm import convert_vitpcm_keras, read_keras_h5


def main() -> int:
    """Convert; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='.h5 file of the official release')
    parser.add_argument('target', help='.pth file to write')
    args = parser.parse_args()
    try:
        state = convert_vitpcm_keras(read_keras_h5(args.source))
    except (FileNotFoundError, ValueError, KeyError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    save_converted(state, args.source, args.target)
    return 0


if __name__ == '__main__':
    sys.exit(main())
