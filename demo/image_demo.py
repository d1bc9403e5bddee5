"""Masks, maps and pictures of any images; the same as `mmwsss predict`.

Example: python demo/image_demo.py vitpcm_shapes data/shapes/JPEGImages/val_00000.jpg --weights work_dirs/demo/vitpcm
"""

from mmwsss.apis import launch
from mmwsss.cli.predict import main

if __name__ == '__main__':
    launch.run_cli(main)
