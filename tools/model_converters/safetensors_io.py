"""Export a checkpoint as safetensors, or import a safetensors file as a checkpoint; the endings say which.

Weights and meta are kept, the latter as JSON; the state of the optimizer is not.

Examples: python tools/model_converters/safetensors_io.py work_dirs/vitpcm_voc/iter_13200.pth vitpcm.safetensors
          python tools/model_converters/safetensors_io.py vitpcm.safetensors vitpcm.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmwsss.apis import launch
from mmwsss.apis.publishing import pack, read_weights, write_packed


def main() -> None:
    """Read one kind of file, write the other."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='.pth or .safetensors file')
    parser.add_argument('target', help='file of the other kind to write')
    args = parser.parse_args()
    suffixes = {Path(args.source).suffix, Path(args.target).suffix}
    if len(suffixes) == 1 or '.safetensors' not in suffixes:
        raise launch.UsageError(f'one of {args.source} and {args.target} has to end in .safetensors')
    content = read_weights(args.source)
    write_packed(args.target, pack(content, Path(args.target).suffix))
    print(f'{len(content["state_dict"])} tensors written to {args.target}')


if __name__ == '__main__':
    launch.run_cli(main)
