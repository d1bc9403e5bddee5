"""``python -m mmwsss`` is the command ``mmwsss``."""

from mmwsss.cli.main import main

main()
