"""Make a file to publish of a checkpoint: weights and meta, without the state of the training, its hash in the name.

Weights that are not finite are refused.

Example: python tools/misc/publish_model.py work_dirs/vitpcm_voc12mini models/vitpcm_voc12mini.pth
"""

from __future__ import annotations

import argparse

from mmwsss.apis import launch
from mmwsss.apis.checkpoints import find_checkpoint
from mmwsss.apis.publishing import publish


def main() -> None:
    """Read the arguments and publish."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='checkpoint, or work dir of which the latest is taken')
    parser.add_argument('target', help='file to write, .pth or .safetensors; its name gets the hash')
    args = parser.parse_args()
    path = publish(find_checkpoint(args.checkpoint), args.target)
    print(f'{path} written, {path.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    launch.run_cli(main)
