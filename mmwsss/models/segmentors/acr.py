"""ACR: all-pairs consistency learning (Sun et al., ICCV 2023 workshops, arXiv 2308.04321)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from mmwsss.models.backbones.token_vit import Encoding
from mmwsss.models.losses.view_pair import Seen
from mmwsss.models.utils.gradient_maps import (
    FORMS,
    attention_affinity,
    class_token_maps,
    spread_by_affinity,
)
from mmwsss.pseudo_labels import min_max_normalize
from mmwsss.pseudo_labels.views import FusionRule
from mmwsss.registry import MODELS

from .weak_segmentor import WeakSegmentor, first_view, refuse_pretrained, stack_image_labels

LOCALIZERS = ('gradient', 'cam')


@MODELS.register_module()
class ACR(WeakSegmentor):
    """Classifier on the class token of a ViT, consistent in its attention between an image and its mirror image.

    Its maps are the positive gradient of a class logit by the attention of the class token in the last blocks, spread
    by the attention between patches.

    Args:
        backbone: a :class:`~mmwsss.models.backbones.TokenViT`; the classifier reads what leaves its last block, so
            ``final_norm=False`` for official weights.
        head: a :class:`~mmwsss.models.heads.ClassTokenHead`.
        loss_cls: of the image logits of each view.
        consistency: config of a :class:`~mmwsss.models.losses.ViewPairConsistency`, whose losses may be off; None
            trains on one view.
        test_cfg: in addition to those of :class:`WeakSegmentor`, ``localizer`` ('gradient' or 'cam', the classifier on
            the patches), ``start_layer`` (first block of the gradient maps, negative from the end), ``form`` (see
            :func:`~mmwsss.models.utils.gradient_maps.block_map`) and ``affinity`` (spread maps by the attention of all
            blocks). Gradient maps are made for the given image labels and for classes with a score above
            ``label_threshold`` only; those of other classes are 0.

    Raises:
        ValueError: a setting has none of its values.
    """

    default_bg_setting = 0.4
    fusion_rules = dict(maps=FusionRule('sum', 'sum'), predicted_maps=FusionRule('sum', 'sum'))
    test_options = (*WeakSegmentor.test_options, 'localizer', 'start_layer', 'form', 'affinity')

    def __init__(
        self,
        backbone: dict,
        head: dict,
        loss_cls: dict,
        consistency: dict | None = None,
        test_cfg: dict | None = None,
        pretrained: str | None = None,
        **kwargs,
    ) -> None:
        refuse_pretrained(pretrained)
        test_cfg = dict(localizer='gradient', start_layer=-2, form='grad', affinity=True) | (test_cfg or {})
        for name, allowed in (('localizer', LOCALIZERS), ('form', FORMS)):
            if test_cfg[name] not in allowed:
                raise ValueError(f'model.test_cfg.{name} has to be one of {allowed}, got {test_cfg[name]!r}')
        super().__init__(head['num_classes'], test_cfg=test_cfg, **kwargs)
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)
        self.loss_cls = MODELS.build(loss_cls)
        self.consistency = None if consistency is None else MODELS.build(consistency)
        layers = self.consistency.attention_layers if self.consistency is not None else ()
        settings = {'model.consistency.layers': layers, 'model.test_cfg.start_layer': [self.test_cfg['start_layer']]}
        for name, chosen in settings.items():
            try:
                self.backbone.layer_indices(chosen)
            except ValueError as error:
                raise ValueError(f'{name}: {error}') from error

    def loss(self, inputs: Tensor | dict[str, Tensor], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of images (B, 3, H, W): of the classification, of each view, and the consistency of both views.

        Raises:
            ValueError: labels that do not fit.
        """
        images = first_view(inputs)
        labels = stack_image_labels(data_samples, self.num_classes - 1)
        if self.consistency is None:
            return dict(loss_cls=self.loss_cls(self.image_logits(self.backbone.encode(images)), labels))
        first, second = self.encode_pair(images, self.consistency.move(images))
        losses = dict(
            loss_cls=self.loss_cls(self.image_logits(first), labels),
            loss_cls_moved=self.loss_cls(self.image_logits(second), labels),
        )
        return losses | self.consistency(self.seen(first), self.seen(second))

    def encode_pair(self, images: Tensor, moved: Tensor) -> tuple[Encoding, Encoding]:
        """Encode both views with the attention that is compared, in one pass where they have one shape."""
        layers = self.consistency.attention_layers
        if images.shape != moved.shape:
            return self.backbone.encode(images, layers), self.backbone.encode(moved, layers)
        both = self.backbone.encode(torch.cat((images, moved)), layers)
        tokens, attention = ([part.chunk(2) for part in parts] for parts in (both.tokens, both.attention))
        return tuple(Encoding([t[i] for t in tokens], both.grid, [a[i] for a in attention]) for i in (0, 1))

    def seen(self, encoded: Encoding) -> Seen:
        """What the consistency compares."""
        maps = self.head.patch_logits(encoded.features[-1]) if self.consistency.compares_maps else None
        return Seen(encoded.attention, encoded.grid, maps)

    def image_logits(self, encoded: Encoding) -> Tensor:
        """Classification logits (B, K) of an encoding."""
        return self.head(encoded.tokens[-1])

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Patch features (B, D, h, w) of images (B, 3, H, W)."""
        return self.backbone(inputs)[-1]

    def network_for(self, labels: Tensor | None) -> Callable[[Tensor], dict[str, Tensor]]:
        """:meth:`network_outputs` with maps of the classes of all ``labels`` (B, K), besides those of high scores."""
        return partial(self.network_outputs, classes=None if labels is None else labels.amax(dim=0))

    @torch.no_grad()
    def network_outputs(self, inputs: Tensor, classes: Tensor | None = None) -> dict[str, Tensor]:
        """Class maps (B, K, h, w) and image scores (B, K) of images (B, 3, H, W).

        Args:
            classes: multi-hot (K,), classes that get a map whatever their score is; ``predicted_maps`` are then those
                of the predicted classes alone, so that label-free decisions do not depend on what was asked for.
        """
        if self.test_cfg['localizer'] == 'cam':
            encoded = self.backbone.encode(inputs)
            maps = self.head.patch_logits(encoded.features[-1]).float().relu()
            return dict(maps=maps, scores=self.image_logits(encoded).float().sigmoid())
        start = self.backbone.layer_indices([self.test_cfg['start_layer']])[0]
        layers = range(self.backbone.num_layers) if self.test_cfg['affinity'] else ()
        tokens, grid = self.backbone.embed(inputs)
        entering, attention = self.backbone.run_blocks(tokens, 0, start, layers)
        leaving, more = self.backbone.run_blocks(entering, start, self.backbone.num_layers, layers)
        scores = self.head(leaving).float().sigmoid()
        predicted = self.presumed_labels(scores)
        wanted = predicted if classes is None else torch.maximum(predicted, classes.to(predicted))
        maps = self.gradient_maps(entering, grid, wanted, start)
        if self.test_cfg['affinity']:
            maps = spread_by_affinity(maps, attention_affinity([*attention, *more]).float())
        outputs = dict(maps=maps, scores=scores)
        return outputs if classes is None else outputs | dict(predicted_maps=maps * predicted[:, :, None, None])

    def decision_maps(
        self, outputs: dict[str, Tensor], labels: Tensor | None, size: Sequence[int], source: str
    ) -> Tensor:
        """Maps (B, K, H, W) at ``size`` that decide a mask.

        Without ``labels`` a class has the maps of the views that predict it, also where labels asked for more of them.
        """
        if labels is None and 'predicted_maps' in outputs:
            outputs = outputs | dict(maps=outputs['predicted_maps'])
        return super().decision_maps(outputs, labels, size, source)

    def gradient_maps(self, tokens: Tensor, grid: Sequence[int], wanted: Tensor, start: int) -> Tensor:
        """Class maps (B, K, h, w) of the classes that ``wanted`` (B, K) names; 0 for others.

        Images with fewer classes than the one with most of them are padded with classes that are thrown away.
        """
        slots = max(int(wanted.sum(dim=1).max()), 1)
        valid, classes = wanted.topk(slots, dim=1)
        maps = class_token_maps(self.backbone, self.head, tokens, grid, classes, start, self.test_cfg['form'])
        maps = maps * valid[:, :, None, None]
        out = maps.new_zeros(*wanted.shape, *grid)
        return out.scatter_(1, classes[:, :, None, None].expand_as(maps), maps)

    def enlarge(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Resize maps (B, K, h, w) to ``size`` and bring each to [0, 1] there, as the official code does."""
        return min_max_normalize(super().enlarge(maps, size), eps=1e-6)

    def pseudo_maps(self, maps: Tensor, labels: Tensor | None, scores: Tensor) -> Tensor:
        """Maps of the present classes, or of those with a score above ``label_threshold`` without labels."""
        present = self.presumed_labels(scores) if labels is None else labels
        return maps * present[:, :, None, None]

    def _forward(self, inputs: Tensor | dict, data_samples: list | None = None) -> Tensor:
        return self.image_logits(self.backbone.encode(first_view(inputs)))
