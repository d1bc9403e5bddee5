"""CoSA: co-training with swapping assignments (Yang et al., ECCV 2024, arXiv 2402.17891)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmwsss.models.losses.dense_energy import boxes_to_regions
from mmwsss.models.losses.perplexity import ReliabilityWeights
from mmwsss.models.losses.view_pair import Seen
from mmwsss.models.utils.ema import ema_update_
from mmwsss.models.utils.idle import zero_gradients
from mmwsss.ops import RESIZERS, PresentClasses, SampledResize, denormalize, denormalize_to_uint8
from mmwsss.pseudo_labels import ignore_outside_boxes, min_max_normalize
from mmwsss.pseudo_labels.segmentation import label_probabilities
from mmwsss.pseudo_labels.two_thresholds import two_threshold_mask
from mmwsss.pseudo_labels.views import Fusion, FusionRule, iter_views
from mmwsss.registry import MODELS, REFINERS

from .cosa_network import CoSANetwork, StreamOutputs
from .weak_segmentor import WeakSegmentor, first_view, stack_boxes, stack_image_labels, with_background

STREAMS = ('assignment', 'online')
AUX_SCALES = ('last', 'sum')

_half_pixel = RESIZERS['half_pixel']


class Assignments(NamedTuple):
    """What the assignment network says about a batch of weak views.

    Args:
        cam, aux_cam: (B, P, H, W) normalised maps in [0, 1] of the present classes.
        samples: (B, P + 1, S, T) summed logits of background and present classes, with ``mask_after_softmax``
            (B, C, S, T) of all classes, at the pixels of the enlarged logits that the target of the maps reads, or at
            all of them; None where they were not asked for.
    """

    cam: Tensor
    aux_cam: Tensor
    samples: Tensor | None


@MODELS.register_module()
class CoSA(WeakSegmentor):
    """Two networks that teach each other: the maps of one supervise the segmentation of the other and vice versa.

    The online network learns from the strong view. The assignment network, its moving average, sees the weak view at
    several scales and makes pseudo masks from its maps for the online segmentation (L_c2s) and pseudo labels from its
    segmentation for the online maps (L_s2c). :class:`~mmwsss.engine.hooks.AssignmentHook` counts iterations and moves
    the average; it has to stand in ``custom_hooks``.

    Args:
        backbone, head, aux_head, decode_head: configs of one :class:`CoSANetwork`; both streams are built from them.
        threshold, aux_threshold: what gives the (high, low) thresholds of the pseudo masks,
            :class:`~mmwsss.pseudo_labels.FixedThreshold` or ``SearchedThreshold``.
        loss_cls: of both classifiers.
        loss_c2s: of the segmentation against the pseudo masks; None switches it off, as for all that follow.
        loss_s2c: of the maps against the segmentation pseudo labels.
        loss_energy: regulariser of the segmentation.
        reliability: ``ReliabilityWeights`` of the pixels in ``loss_c2s`` (RAW). As described in the paper; not part of
            the released code.
        loss_csc: ``SeparationLoss`` on the online features. As described in the paper; not part of the released code.
        loss_pce: ``PatchContrastLoss`` on the online features and the maps of the assignment network, whose background
            is 1 - best class; APC's contrast, not CoSA's.
        consistency: :class:`~mmwsss.models.losses.ViewPairConsistency` of the online network between the strong view
            and a moved copy of it, from the first iteration on; ACR's regulariser, not CoSA's.
        warmup_iters: index of the last iteration in which only the classifiers learn.
        warmup: 'skip' computes nothing that the warm-up does not need; 'zero' multiplies the other losses by 0 as the
            official code does. Both leave zero gradients instead of none at the segmentation head, so that its weights
            decay and the optimizer counts its steps: the weights are the same for a head without dropout and batch
            norm.
        momentum: of the moving average.
        independent_init: keep the random heads that the assignment network was built with, as the official code does,
            instead of starting as a copy of the online network.
        assignment_eval: run the assignment network without dropout; the official code runs it with.
        scales: of the weak view, each with its mirror image.
        aux_scales: 'last' takes the intermediate maps from the last scale only, as the official code does; 'sum' from
            all.
        aux_cam2seg: share of the pseudo masks from intermediate maps in ``loss_c2s``.
        aux_seg2cam: share of the intermediate maps in ``loss_s2c``.
        mix_cams: replace the final maps by the mean of final and intermediate ones.
        down_scale: of maps before the decision between two thresholds.
        temperature: of the segmentation pseudo labels.
        mask_after_softmax: mask absent classes in the probabilities rather than in the logits.
        refiner: of the pseudo masks, such as ``dict(type='PAR')``; see
            :func:`~mmwsss.pseudo_labels.two_threshold_mask`.
        assignment_dtype: 'bfloat16' or 'float16' runs the assignment network in this precision during training; None in
            that of the optimizer wrapper.
        max_batch: most images in one pass of the assignment network.
        test_cfg: in addition to those of :class:`WeakSegmentor`, ``stream`` ('assignment' or 'online') predicts, and
            ``cam_head`` ('head' or 'aux_head') makes the localization maps.
        kwargs: arguments of :class:`WeakSegmentor`.

    Raises:
        ValueError: a setting has none of its values, or the heads differ in ``num_classes``.
    """

    segments = True
    default_bg_setting = 0.5
    default_upsample = 'half_pixel'
    fuses_at_input_size = True
    view_divisor = 1  # views of any size as in the official code, whose patches leave a remainder out
    test_options = (*WeakSegmentor.test_options, 'stream', 'cam_head')

    def __init__(
        self,
        backbone: dict,
        head: dict,
        aux_head: dict,
        decode_head: dict,
        threshold: dict,
        aux_threshold: dict,
        loss_cls: dict,
        loss_c2s: dict | None = None,
        loss_s2c: dict | None = None,
        loss_energy: dict | None = None,
        reliability: dict | None = None,
        loss_csc: dict | None = None,
        loss_pce: dict | None = None,
        consistency: dict | None = None,
        warmup_iters: int = 6000,
        warmup: str = 'skip',
        momentum: float = 0.9994,
        independent_init: bool = False,
        assignment_eval: bool = True,
        scales: Sequence[float] = (1.0, 0.5, 1.5),
        aux_scales: str = 'last',
        aux_cam2seg: float = 0.5,
        aux_seg2cam: float = 0.0,
        mix_cams: bool = False,
        down_scale: int = 2,
        temperature: float = 0.01,
        mask_after_softmax: bool = False,
        refiner: dict | None = None,
        assignment_dtype: str | None = None,
        max_batch: int | None = None,
        test_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        choices = dict(warmup=(warmup, ('skip', 'zero')), aux_scales=(aux_scales, AUX_SCALES))
        choices['assignment_dtype'] = assignment_dtype, (None, 'bfloat16', 'float16')
        test_cfg = dict(stream='assignment', cam_head='head') | (test_cfg or {})
        choices['test_cfg.stream'] = test_cfg['stream'], STREAMS
        choices['test_cfg.cam_head'] = test_cfg['cam_head'], ('head', 'aux_head')
        if loss_cls is None:
            raise ValueError('loss_cls of CoSA cannot be switched off; the classifiers learn from nothing else')
        if not scales or min(scales) <= 0:
            raise ValueError(f'scales of CoSA has to be positive numbers, at least one, got {tuple(scales)}')
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise ValueError(f'{name} of CoSA has to be one of {allowed}, got {value!r}')
        for name, share in (('aux_cam2seg', aux_cam2seg), ('aux_seg2cam', aux_seg2cam), ('momentum', momentum)):
            if not 0 <= share <= 1:
                raise ValueError(f'{name} of CoSA has to lie between 0 and 1, got {share}')
        if temperature <= 0:
            raise ValueError(f'temperature of CoSA has to be positive, got {temperature}')
        parts = dict(backbone=backbone, head=head, aux_head=aux_head, decode_head=decode_head)
        counts = {name: part['num_classes'] for name, part in parts.items() if name != 'backbone'}
        if len(set(counts.values())) > 1:
            listed = ', '.join(f'{name} {count}' for name, count in counts.items())
            raise ValueError(f'the heads of CoSA need one num_classes, got {listed}')
        super().__init__(decode_head['num_classes'], test_cfg=test_cfg, **kwargs)
        self.online = CoSANetwork(**deepcopy(parts))
        self.assignment = CoSANetwork(**deepcopy(parts)).requires_grad_(False)
        self.threshold = MODELS.build(threshold)
        self.aux_threshold = MODELS.build(aux_threshold)
        losses = dict(cls=loss_cls, c2s=loss_c2s, s2c=loss_s2c, energy=loss_energy, csc=loss_csc, pce=loss_pce)
        for name, config in losses.items():
            setattr(self, f'loss_{name}', None if config is None else MODELS.build(config))
        self.consistency = None if consistency is None else MODELS.build(consistency)
        self.reliability = None if reliability is None else MODELS.build(reliability)
        self.refiner = None if refiner is None else REFINERS.build(refiner)
        self.warmup_iters = warmup_iters
        self.warmup = warmup
        self.momentum = momentum
        self.independent_init = independent_init
        self.assignment_eval = assignment_eval
        self.scales = tuple(scales)
        self.aux_scales = aux_scales
        self.aux_cam2seg = aux_cam2seg
        self.aux_seg2cam = aux_seg2cam
        self.mix_cams = mix_cams
        self.down_scale = down_scale
        self.temperature = temperature
        self.mask_after_softmax = mask_after_softmax
        self.assignment_dtype = None if assignment_dtype is None else getattr(torch, assignment_dtype)
        self.max_batch = max_batch
        self.stream = self.test_cfg['stream']
        self.iteration: int | None = None  # AssignmentHook says it
        self._start_as_copy()
        self.train(self.training)
        self._check_parts()

    def _check_parts(self) -> None:
        if self.loss_c2s is not None and not hasattr(self.loss_c2s, 'of_masks'):
            raise ValueError(f'loss_c2s of CoSA has to be a BalancedCELoss, got {type(self.loss_c2s).__name__}')
        if len(getattr(self.online.backbone, 'out_indices', (0, 1))) < 2:
            raise ValueError(
                'backbone.out_indices of CoSA needs two blocks, that of the intermediate tokens and the last one, got '
                f'{self.online.backbone.out_indices}'
            )
        reads_colours = self.loss_energy is not None or self.refiner is not None
        if reads_colours and not hasattr(self.data_preprocessor, 'mean'):
            raise ValueError('loss_energy and refiner of CoSA read colours; set mean and std of data_preprocessor')

    @property
    def backbone(self) -> nn.Module:
        """Backbone of the stream that predicts."""
        return getattr(self, self.stream).backbone

    @property
    def head(self) -> nn.Module:
        """Classifier on the final tokens of the stream that predicts."""
        return getattr(self, self.stream).head

    def init_weights(self) -> None:
        """Initialise both streams; the assignment network becomes a copy unless ``independent_init``.

        Where ``init_cfg`` reads a checkpoint of the whole segmentor, both streams stay as that has them.
        """
        super().init_weights()
        if not (isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained'):
            self._start_as_copy()

    def _start_as_copy(self) -> None:
        if not self.independent_init:
            self.assignment.load_state_dict(self.online.state_dict())

    def train(self, mode: bool = True) -> CoSA:
        """Switch to training or inference mode; the assignment network stays in the latter with ``assignment_eval``."""
        super().train(mode)
        if self.assignment_eval:
            self.assignment.eval()
        return self

    def update_assignment(self) -> None:
        """Move the assignment network by one step of the moving average; to be called after every optimizer step."""
        ema_update_(self.assignment, self.online, self.momentum)

    def loss(self, inputs: dict[str, Tensor], data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of weak views ``view_1`` and strong views ``view_2``, (B, 3, H, W) of equal geometry.

        Besides the weighted losses, their plain values and the thresholds are returned for the log.

        Raises:
            ValueError: only one view, or samples without labels.
            RuntimeError: nobody said which iteration this is.
        """
        if self.iteration is None:
            raise RuntimeError(
                'CoSA needs dict(type="AssignmentHook") in custom_hooks, which counts iterations and moves the '
                'assignment network; a config that replaces the list has to repeat it'
            )
        weak, strong = _two_views(inputs, data_samples)
        labels = stack_image_labels(data_samples, self.num_classes - 1)
        idle = self.iteration <= self.warmup_iters
        skipped = idle and self.warmup == 'skip'

        layers = () if self.consistency is None else self.consistency.attention_layers
        online = self.online(strong, decode=not skipped, attention_layers=layers)
        losses = dict(
            loss_cls=self.loss_cls(online.image_logits, labels),
            loss_cls_aux=self.loss_cls(online.aux_image_logits, labels),
        )
        if self.consistency is not None:
            moved = self.online(self.consistency.move(strong), decode=False, attention_layers=layers)
            losses |= self.consistency(_seen(online), _seen(moved))
        swapped, log = {}, {}
        if not skipped or self._thresholds_learn:
            slots = max(sample.get('num_present', labels.shape[1]) for sample in data_samples)
            present = PresentClasses(labels, slots)
            target_size = SampledResize(strong.shape[-2:], online.cam.shape[-2:])
            assigned = self.assign(weak, present, target_size, decode=not skipped)
            thresholds = self.threshold(assigned.cam), self.aux_threshold(assigned.aux_cam)
            log = {
                f'{name}_{level}': value
                for name, pair in zip(('threshold', 'aux_threshold'), thresholds)
                for level, value in zip(('high', 'low'), pair)
            }
        if not skipped:
            boxes = stack_boxes(data_samples, strong)
            cams = (assigned.cam, assigned.aux_cam) if self.aux_cam2seg else (assigned.cam,)
            masks = [self.pseudo_mask(cam, *pair, present, boxes, weak) for cam, pair in zip(cams, thresholds)]
            logits = _half_pixel(online.logits.float(), strong.shape[-2:])
            swapped['c2s'], probabilities = self.cam_to_segmentation(logits, masks, cams, thresholds)
            swapped['energy'] = self.energy(probabilities, strong, masks[0], boxes)
            swapped['s2c'] = self.segmentation_to_cam(online, assigned, present, target_size)
            swapped['csc'] = self.separation(online.features, masks[0], assigned.cam, thresholds[0])
            swapped['pce'] = self.patch_contrast(online.features, assigned.cam, present)
        for name, value in swapped.items():
            if value is not None:
                if weight := getattr(self, f'loss_{name}').loss_weight:
                    log[name] = value.detach() / weight
                losses[f'loss_{name}'] = 0.0 * value if idle else value
        if skipped or (self.loss_c2s is None and self.loss_energy is None):
            losses['loss_idle'] = zero_gradients(self.online.decode_head)
        return losses | log

    @torch.no_grad()
    def assign(
        self, images: Tensor, present: PresentClasses, samples: SampledResize, decode: bool = True
    ) -> Assignments:
        """Run the assignment network on ``images`` (B, 3, H, W) at all scales, mirrored too, and fuse what it says.

        Maps are the larger of both mirror images, rectified, summed over scales and brought to [0, 1] per image and
        class; logits are summed over all views, and None without ``decode``.
        """
        size = tuple(images.shape[-2:])
        cam = Fusion(FusionRule('max', 'sum', 'after'), size)
        aux_cam = Fusion(FusionRule('max', 'sum', 'after'), size)
        full_size = self.loss_s2c is not None and self.loss_s2c.needs_full_size
        logits = 0 if decode else None
        view = partial(self._assigned_view, decode=decode)
        views = iter_views(view, images, self.scales, flip=True, max_batch=self.max_batch)
        for position, (_, outputs) in enumerate(views, start=1):
            cam.add(present.select(outputs['cam']))
            if self.aux_scales == 'sum' or position == len(self.scales):
                aux_cam.add(present.select(outputs['aux_cam']))
            if not decode:
                continue
            both = outputs['logits'].float().sum(dim=0)
            if not self.mask_after_softmax:  # the softmax before the mask runs over absent classes as well
                both = present.select_with_background(both)
            logits = logits + (_half_pixel(both, size) if full_size else samples.enlarge(both))
        maps = [min_max_normalize(fusion.result()) for fusion in (cam, aux_cam)]
        if self.mix_cams:
            maps[0] = (maps[0] + maps[1]) / 2
        return Assignments(*maps, logits)

    def _assigned_view(self, images: Tensor, decode: bool) -> dict[str, Tensor]:
        if self.assignment_dtype is None:
            outputs = self.assignment(images, decode)
        else:
            with torch.autocast(images.device.type, self.assignment_dtype):
                outputs = self.assignment(images, decode)
        maps = dict(cam=outputs.cam, aux_cam=outputs.aux_cam)
        return maps | dict(logits=outputs.logits) if decode else maps

    @torch.no_grad()
    def pseudo_mask(
        self, cam: Tensor, high: Tensor, low: Tensor, present: PresentClasses, boxes: Tensor, images: Tensor
    ) -> Tensor:
        """Pseudo mask (B, H, W) int64 of maps (B, P, H, W) of the present classes; 255 between and outside of boxes."""
        pixels = None
        if self.refiner is not None:
            pixels = denormalize_to_uint8(images, self.data_preprocessor.mean, self.data_preprocessor.std)
        mask = two_threshold_mask(cam, high, low, present.valid, self.down_scale, pixels, self.refiner)
        return ignore_outside_boxes(present.to_classes(mask), boxes)

    def cam_to_segmentation(
        self,
        logits: Tensor,
        masks: Sequence[Tensor],
        cams: Sequence[Tensor],
        thresholds: Sequence[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor | None, Tensor]:
        """L_c2s: logits (B, C, H, W) of the online segmentation against pseudo masks; and their softmax.

        Args:
            masks, cams, thresholds: of the final and, with ``aux_cam2seg``, of the intermediate tokens.
        """
        if self.loss_c2s is None:
            return None, logits.softmax(dim=1)
        weights = None
        if self.reliability is not None:
            weights = [
                self.reliability(cam.amax(dim=1), mask, sum(pair) / 2)
                for cam, mask, pair in zip(cams, masks, thresholds)
            ]
        losses, probabilities = self.loss_c2s.of_masks(logits, masks, weights)
        loss = torch.lerp(losses[0], losses[1], self.aux_cam2seg) if len(masks) > 1 else losses[0]
        return loss, probabilities

    def segmentation_to_cam(
        self, online: StreamOutputs, assigned: Assignments, present: PresentClasses, samples: SampledResize
    ) -> Tensor | None:
        """L_s2c: online maps against the segmentation pseudo labels."""
        if self.loss_s2c is None:
            return None
        labels = present.labels if self.mask_after_softmax else present.valid
        target = label_probabilities(assigned.samples, labels, self.temperature, self.mask_after_softmax)
        if not self.loss_s2c.needs_full_size:
            target = samples.reduce(target)
        if not self.mask_after_softmax:
            target = present.spread(target, self.num_classes)
        loss = (1 - self.aux_seg2cam) * self.loss_s2c(online.cam, target)
        return loss + self.aux_seg2cam * self.loss_s2c(online.aux_cam, target) if self.aux_seg2cam else loss

    def energy(self, probabilities: Tensor, images: Tensor, mask: Tensor, boxes: Tensor) -> Tensor | None:
        """L_reg: dense energy of the online segmentation on the colours of the strong views."""
        if self.loss_energy is None:
            return None
        pixels = denormalize(images, self.data_preprocessor.mean, self.data_preprocessor.std)
        regions = boxes_to_regions(boxes, tuple(images.shape[-2:]))
        return self.loss_energy(probabilities, pixels, mask, regions)

    def separation(
        self, features: Tensor, mask: Tensor, cam: Tensor, thresholds: tuple[Tensor, Tensor]
    ) -> Tensor | None:
        """L_csc: contrast of online features (B, D, h, w) between patches of different pseudo labels."""
        if self.loss_csc is None:
            return None
        size = features.shape[-2:]
        labels = F.interpolate(mask[:, None].float(), size=size, mode='nearest-exact')[:, 0].long()
        measure = self.reliability or ReliabilityWeights()
        perplexity = measure.perplexity(_half_pixel(cam, size).amax(dim=1), sum(thresholds) / 2)
        return self.loss_csc(features, labels, perplexity)

    def patch_contrast(self, features: Tensor, cam: Tensor, present: PresentClasses) -> Tensor | None:
        """L_PCE: contrast of online features (B, D, h, w) between patches that the maps are confident of (APC)."""
        if self.loss_pce is None:
            return None
        maps = _half_pixel(cam, features.shape[-2:])
        maps = torch.cat((1 - maps.amax(dim=1, keepdim=True), maps), dim=1)
        return self.loss_pce(features, maps, with_background(present.valid))

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Final patch features (B, D, h, w) of images (B, 3, H, W) in the stream that predicts."""
        return self.backbone(inputs)[-1]

    def network_outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """Raw maps (B, K, h, w), classification logits (B, K) and segmentation logits (B, K + 1, h, w) of a stream."""
        outputs = getattr(self, self.stream)(inputs)
        if self.test_cfg['cam_head'] == 'aux_head':
            return dict(maps=outputs.aux_cam, scores=outputs.aux_image_logits, logits=outputs.logits)
        return dict(maps=outputs.cam, scores=outputs.image_logits, logits=outputs.logits)

    @property
    def fusion_rules(self) -> dict[str, FusionRule]:
        """How the outputs of several views become one, in prediction as in training."""
        over_scales = self.aux_scales if self.test_cfg['cam_head'] == 'aux_head' else 'sum'
        return dict(maps=FusionRule('max', over_scales, 'after'), logits=FusionRule('sum', 'sum'))

    def finish_views(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps in [0, 1] per image and class, and sigmoid scores."""
        return fused | dict(maps=min_max_normalize(fused['maps']), scores=fused['scores'].sigmoid())

    def pseudo_maps(self, maps: Tensor, labels: Tensor | None, scores: Tensor) -> Tensor:
        """Maps of the present classes, or of those with a score above ``label_threshold`` without labels."""
        present = self.presumed_labels(scores) if labels is None else labels
        return maps * present[:, :, None, None]

    def _forward(self, inputs: Tensor | dict, data_samples: list | None = None) -> Tensor:
        return getattr(self, self.stream)(first_view(inputs)).logits

    @property
    def _thresholds_learn(self) -> bool:
        return any(getattr(threshold, 'learns', False) for threshold in (self.threshold, self.aux_threshold))


def _seen(outputs: StreamOutputs) -> Seen:
    return Seen(outputs.attention, tuple(outputs.cam.shape[-2:]), outputs.cam)


def _two_views(inputs: Tensor | dict[str, Tensor], samples: list[SegDataSample]) -> tuple[Tensor, Tensor]:
    remedy = 'put OneOfStrongAug, which keeps the geometry, into the training pipeline'
    if not (isinstance(inputs, dict) and 'view_2' in inputs):
        raise ValueError(f'CoSA needs a weak and a strong view of every image; {remedy}')
    weak, strong = inputs['view_1'], inputs['view_2']
    if weak.shape != strong.shape or 'record_2' in samples[0]:
        raise ValueError(
            f'CoSA needs both views in one geometry, got {tuple(weak.shape[-2:])} and {tuple(strong.shape[-2:])} pixels'
            f'{" of different crops" if weak.shape == strong.shape else ""}; {remedy} in the place of TwoViews'
        )
    return weak, strong
