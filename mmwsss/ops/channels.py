"""Which channels of a stack of class maps the image labels allow."""

from __future__ import annotations

import torch
from torch import Tensor


def present_channels(labels: Tensor, channels: int) -> Tensor:
    """Channels (B, C) bool that multi-hot image labels (B, K) allow; the background, where C = K + 1, is always there.

    Raises:
        ValueError: C is neither K nor K + 1.
    """
    present = labels > 0.5
    if present.shape[1] == channels:
        return present
    if present.shape[1] == channels - 1:
        return torch.cat((present.new_ones(len(present), 1), present), dim=1)
    raise ValueError(
        f'{labels.shape[1]} image labels do not fit maps of {channels} channels; expected one for each foreground class'
    )


class PresentClasses:
    """The classes that the image labels name, gathered into as few channels as the image with most of them needs.

    What depends on one class at a time (normalisation, softmax among present classes) then costs as many channels as
    there are classes in an image, not as there are in the data set.

    Args:
        labels: (B, K) multi-hot image labels.
        slots: P, at least the number of present classes of every image; known on the host, so that nothing waits for
            the device. None keeps K.

    Attributes:
        labels: (B, K), as given.
        index: (B, P) int64, the class of each slot, ascending.
        valid: (B, P) float32, 0 for slots that are left over.
    """

    def __init__(self, labels: Tensor, slots: int | None = None) -> None:
        slots = labels.shape[1] if slots is None else min(max(slots, 1), labels.shape[1])
        self.labels = labels
        self.index = labels.topk(slots, dim=1).indices.sort(dim=1).values
        self.valid = (labels.gather(1, self.index) > 0.5).float()

    def select(self, maps: Tensor) -> Tensor:
        """Channels (..., B, P, h, w) of ``maps`` (..., B, K, h, w) that belong to the slots, 0 for those left over."""
        index = self.index[:, :, None, None].expand(*maps.shape[:-3], -1, *maps.shape[-2:])
        return maps.gather(-3, index) * self.valid[:, :, None, None].to(maps.dtype)

    def select_with_background(self, maps: Tensor) -> Tensor:
        """The same (..., B, P + 1, h, w) of ``maps`` (..., B, K + 1, h, w) whose channel 0, the background, stays."""
        return torch.cat((maps[..., :1, :, :], self.select(maps[..., 1:, :, :])), dim=-3)

    def spread(self, maps: Tensor, num_classes: int) -> Tensor:
        """Maps (B, C, h, w) over all classes of ``maps`` (B, P + 1, h, w) over background and slots, 0 elsewhere."""
        foreground = maps[:, 1:] * self.valid[:, :, None, None].to(maps.dtype)
        index = (self.index + 1)[:, :, None, None].expand_as(foreground)
        out = maps.new_zeros(len(maps), num_classes, *maps.shape[-2:])
        return torch.cat((maps[:, :1], out[:, 1:]), dim=1).scatter_add_(1, index, foreground)

    def to_classes(self, mask: Tensor, ignore_index: int = 255) -> Tensor:
        """Classes (B, H, W) of a mask (B, H, W) over background and slots; ``ignore_index`` stays."""
        classes = torch.cat((torch.zeros_like(self.index[:, :1]), self.index + 1), dim=1)
        ignored = mask == ignore_index
        found = classes.gather(1, torch.where(ignored, 0, mask).flatten(1)).view_as(mask)
        return torch.where(ignored, ignore_index, found)
