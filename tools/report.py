"""Write one HTML page about one or several runs, see `mmwsss/reports/cli.py` and docs/report.md.

Example: python tools/report.py work_dirs/vitpcm_shapes
"""

from mmwsss.apis import launch
from mmwsss.reports.cli import main

if __name__ == '__main__':
    launch.run_cli(main)
