"""Print a config with its bases and overrides resolved.

Example: python tools/misc/print_config.py configs/vitpcm_voc.py --cfg-options train_cfg.max_iters=100
"""

from __future__ import annotations

import argparse

from mmwsss.apis import launch


def main() -> None:
    """Read the arguments and print the config."""
    parser = launch.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    args = parser.parse_args()
    print(launch.load_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    launch.run_cli(main)
