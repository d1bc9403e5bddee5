"""Says at the end of a training which images could not be read."""

from __future__ import annotations

import logging
from pathlib import Path

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmwsss.datasets.corrupt_files import corrupt_images
from mmwsss.registry import HOOKS
from mmwsss.utils.files import write_text

LIST_FILE = 'corrupt_images.txt'
_MAX_NAMED = 5


@HOOKS.register_module()
class CorruptImagesHook(Hook):
    """Report the images that a dataset with ``skip_corrupt=True`` has replaced by others, of all processes.

    The log names the first ones, ``corrupt_images.txt`` in the work dir all.
    """

    def after_train(self, runner: Runner) -> None:
        """Count, name and list them."""
        found = all_gather_object(corrupt_images(runner.train_dataloader.dataset))
        paths = sorted({path for own in found for path in own})
        if not paths or not is_main_process():
            return
        path = write_text(Path(runner.work_dir, LIST_FILE), ''.join(f'{path}\n' for path in paths))
        named = ', '.join(paths[:_MAX_NAMED]) + (', ...' if len(paths) > _MAX_NAMED else '')
        print_log(
            f'{len(paths)} corrupt images were replaced by others: {named}; all are listed in {path}',
            'current',
            logging.WARNING,
        )
