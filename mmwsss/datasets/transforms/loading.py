"""Loading of files that may be damaged or hostile."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import LoadImageFromFile as HostLoadImageFromFile
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations as HostLoadAnnotations

from mmwsss.registry import TRANSFORMS
from mmwsss.utils.images import UNREADABLE, decode_image

from ..checks import CorruptFile, one_line


@TRANSFORMS.register_module()
class LoadImageFromFile(HostLoadImageFromFile):
    """mmcv's step of the same name, whose place it takes in configs of this package.

    It looks at the size in the header before it decodes, see :func:`~mmwsss.utils.images.limit_pixels`, and takes no
    image that is cut off.

    Raises:
        FileNotFoundError: when called, there is no such file.
        CorruptFile: when called, the file cannot be read.
    """

    def transform(self, results: dict) -> dict | None:
        """Set ``img`` (H, W, 3) in BGR, ``img_shape`` and ``ori_shape``; needs ``img_path``."""
        path = results['img_path']
        try:
            image = decode_image(
                fileio.get(path, backend_args=self.backend_args), self.color_type, self.imdecode_backend
            )
        except UNREADABLE as error:
            if self.ignore_empty:
                return None
            if isinstance(error, FileNotFoundError):
                raise
            raise CorruptFile(f'the image {path} cannot be read: {one_line(error)}') from error
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadAnnotations(HostLoadAnnotations):
    """mmseg's step of the same name, whose place it takes in configs of this package.

    Raises:
        FileNotFoundError: when called, there is no such file.
        CorruptFile: when called, the file cannot be read, or has several channels.
    """

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        try:
            super()._load_seg_map(results)
        except FileNotFoundError:
            raise
        except (*UNREADABLE, AttributeError) as error:  # mmseg takes it for granted that something was decoded
            raise CorruptFile(f'the mask {path} cannot be read: {one_line(error)}') from error
        if results['gt_seg_map'].ndim > 2:
            raise CorruptFile(f'the mask {path} has several channels; save it as L or P')
