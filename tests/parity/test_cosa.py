"""CoSA as a whole: complete training runs and the evaluation of the official code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.structures import SegDataSample
from torch import Tensor
from vectors import close, load, planes, tensor, vectors

from mmwsss.engine import WarmupPolyLR
from mmwsss.engine.hooks import AssignmentHook
from mmwsss.evaluation.confusion import (
    average_precision_per_image,
    confusion_matrix,
    iou_from_confusion,
    summary_from_confusion,
)
from mmwsss.models.segmentors import CoSA
from mmwsss.models.utils.cosa_weights import convert_cosa
from mmwsss.pseudo_labels.labeler import LabelState, PseudoLabeler
from mmwsss.pseudo_labels.segmentation import label_probabilities
from mmwsss.pseudo_labels.views import half_pixel
from mmwsss.registry import MODELS

# What the official code fixes and its files do not hold.
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
PATCH, DILATION, LR_WARMUP = 16, 5, 1500
IGNORE = 255
EVAL_SCALES, HEADS, AUX_LAYER = (1, 0.5, 1.5, 0.75, 1.25), 4, -3
OFFICIAL_CRF = dict(
    type='DenseCRF',
    iterations=1,
    gaussian_weight=1,
    gaussian_xy=1,
    bilateral_weight=4,
    bilateral_xy=121,
    bilateral_rgb=5,
)


def official_state(data: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): tensor(value).float() for key, value in data.items() if key.startswith(prefix)
    }  # fmt: skip


def build_cosa(state: dict[str, Tensor], heads: int, aux_layer: int, **settings) -> CoSA:
    """CoSA of the sizes of an official network; both streams get its weights."""
    weights = convert_cosa(state)
    width = weights['backbone.cls_token'].shape[-1]
    depth = len({key.split('.')[2] for key in weights if key.startswith('backbone.layers.')})
    classes, channels = weights['decode_head.conv_seg.weight'].shape[:2]
    hidden = len(weights['backbone.layers.0.ffn.layers.0.0.bias'])
    head = dict(type='CAMHead', in_channels=width, num_classes=classes, init_std=None)
    head['pooling'] = dict(type='GlobalMaxPooling')
    settings.setdefault('threshold', dict(type='FixedThreshold', high=0.7, low=0.25))
    settings.setdefault('aux_threshold', dict(type='FixedThreshold', high=0.7, low=0.25))
    model = MODELS.build(
        dict(
            type='CoSA',
            data_preprocessor=dict(type='WeakSegDataPreProcessor', mean=MEAN, std=STD),
            backbone=dict(
                type='TokenViT',
                arch=dict(embed_dims=width, num_layers=depth, num_heads=heads, feedforward_channels=hidden),
                img_size=round((weights['backbone.pos_embed'].shape[1] - 1) ** 0.5) * PATCH,
                patch_size=PATCH,
                pos_interp='torch',
                freeze_pos_embed=True,
                out_indices=[depth + aux_layer, depth - 1],
            ),
            head=head,
            aux_head=head,
            decode_head=dict(
                type='LargeFOVHead', in_channels=width, channels=channels, num_classes=classes, dilation=DILATION
            ),
            loss_cls=dict(type='MultiLabelSoftMarginLoss'),
            **settings,
        )
    )
    for stream in (model.online, model.assignment):
        stream.load_state_dict(weights)
    return model


class Training:
    """The official training run of one file, replayed through our segmentor, hook, optimizer and schedule."""

    def __init__(self, path: Path, warmup: str = 'zero') -> None:
        self.data, self.inputs = load(path), load(path.with_name(re.sub('^train_[a-z]+', 'train_inputs', path.name)))
        self.args = json.loads(str(self.data['args_json']))
        inputs, args = self.inputs, self.args
        online = official_state(inputs, 'on0/')
        threshold, aux_threshold = self.thresholds()
        self.model = build_cosa(
            online,
            int(inputs['num_heads']),
            int(inputs['aux_layer']),
            threshold=threshold,
            aux_threshold=aux_threshold,
            loss_c2s=dict(type='BalancedCELoss', fg_weight=args['segfg_alpha'], loss_weight=args['seg_weight']),
            loss_s2c=dict(
                type='SegToCAMLoss',
                version=args['camloss_version'],
                confidence=args['segconf_thre'],
                loss_weight=args['cam_weight'],
            ),
            loss_energy=dict(type='DenseEnergyLoss', loss_weight=args['reg_weight']),
            warmup_iters=args['warmup_iters'],
            warmup=warmup,
            momentum=args['momentum'],
            independent_init=True,
            scales=args['pseudo_scales'],
            aux_cam2seg=args['aux_cam2seg_alpha'] if args['aux_cam2seg'] else 0.0,
            aux_seg2cam=args['aux_seg2cam_alpha'] if args['aux_seg2cam'] else 0.0,
            mix_cams=args['use_cammix'],
            down_scale=args['par_downscale'],
            temperature=args['seg_softmaxtemp'],
            mask_after_softmax=args['after_softmax'],
        )
        self.model.assignment.load_state_dict(convert_cosa(official_state(inputs, 'an0/')))
        self.fill_queues()
        heads = {key: dict(lr_mult=args['lrscale']) for key in ('head', 'aux_head', 'decode_head')}
        self.wrapper = build_optim_wrapper(
            self.model,
            dict(
                optimizer=dict(type='AdamW', lr=args['lr'], betas=(0.9, 0.999), weight_decay=args['wt_dec']),
                paramwise_cfg=dict(custom_keys={f'online.{name}': value for name, value in heads.items()}),
            ),
        )
        self.schedule = WarmupPolyLR(
            self.wrapper, max_iters=args['max_iters'], warmup_iters=LR_WARMUP, min_mult=args['min_mult']
        )

    def thresholds(self) -> list[dict]:
        args = self.args
        pairs = [(args['high_thre'], args['low_thre']), (args['high_thre_aux'], args['low_thre_aux'])]
        if not args['usegmm']:
            return [dict(type='FixedThreshold', high=high, low=low) for high, low in pairs]
        settings = dict(
            type='SearchedThreshold',
            rows=args['batch_size'] * args['queue_update_ratio'],
            size=args['crop_size'],
            cell=args['gmmscale'],
            decay=args['gmmemadecay'],
        )
        floors = args['gmmfilter_thre'], 0.05  # the official call for the intermediate maps keeps its default
        return [dict(settings, high=high, low=low, floor=floor) for (high, low), floor in zip(pairs, floors)]

    def fill_queues(self) -> None:
        """Start the queues from the numbers that the official run drew."""
        if not self.args['usegmm']:
            return
        state = np.random.RandomState(self.args['seed'])
        state.randint(self.args['max_iters'])
        for threshold in (self.model.threshold, self.model.aux_threshold):
            threshold.queue.copy_(torch.from_numpy(state.random_sample(tuple(threshold.queue.shape))))

    def batch(self, index: int) -> tuple[dict[str, Tensor], list[SegDataSample]]:
        mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
        views = (planes(self.inputs[f'it{index}/{name}_u8']).float() for name in ('weak', 'strong'))
        samples = []
        for labels, box in zip(self.inputs[f'it{index}/cls_label'], self.inputs[f'it{index}/img_box']):
            sample = SegDataSample(metainfo=dict(img_box=tuple(box.tolist()), num_present=int(labels.sum())))
            sample.image_labels = tensor(labels)
            samples.append(sample)
        return dict(zip(('view_1', 'view_2'), ((view - mean) / std for view in views))), samples

    def step(self, index: int) -> dict[str, Tensor]:
        """One iteration, with the hook that a runner would call."""
        runner = SimpleNamespace(model=self.model, iter=index, optim_wrapper=self.wrapper, hooks=[])
        hook = AssignmentHook()
        hook.before_train_iter(runner, index)
        losses = self.model.loss(*self.batch(index))
        total, _ = self.model.parse_losses(losses)
        self.wrapper.update_params(total)
        hook.after_train_iter(runner, index)
        self.schedule.step()
        return {name: value.detach() for name, value in losses.items()} | dict(total=total.detach())


TRAININGS = 'train_d*.npz'
RAW = dict(seg_loss='c2s', cam_loss='s2c', reg_loss='energy', cls_loss='loss_cls', cls_aux_loss='loss_cls_aux')


@vectors('cosa', 'train_inputs*.npz')
def test_inputs_of_the_training_runs(path: Path) -> None:
    data = load(path)
    model = build_cosa(official_state(data, 'on0/'), int(data['num_heads']), int(data['aux_layer']))
    assert model.num_classes == int(data['num_classes'])
    assert model.online.decode_head.channels == int(data['decoder_channels'])


@vectors('cosa', TRAININGS)
def test_training_run(path: Path) -> None:
    run = Training(path)
    data = run.data
    columns = json.loads(str(data['loss_keys']))
    masks: list[Tensor] = []
    make_mask = run.model.pseudo_mask
    run.model.pseudo_mask = lambda *args: masks.append(make_mask(*args)) or masks[-1]
    searched = []
    check_first_maps(run)
    for index, expected in enumerate(data['losses']):
        found = run.step(index)
        expected = dict(zip(columns, expected))
        close(found['total'], expected['overall_loss'], rtol=2e-4)
        for official, ours in RAW.items():
            close(found[ours], expected[official], rtol=1e-3 if official == 'reg_loss' else 2e-4)
        for name, mask in zip(('main', 'aux'), masks[-2:]):
            theirs = tensor(data[f'it{index}/mask_{name}']).long()
            assert (mask != theirs).float().mean() <= 0.01, (index, name)
        for position, threshold in enumerate((run.model.threshold, run.model.aux_threshold)):
            pair = torch.stack((threshold.high, threshold.low))
            close(pair, data['thresholds_high_low_per_call'][2 * index + position], atol=2e-3)
            searched.append(getattr(threshold, 'last_search', None))
    if 'gmm_low_high_per_call' in data:
        close(torch.stack(searched), data['gmm_low_high_per_call'], atol=2e-3)
    for prefix, stream in (('onN/', run.model.online), ('anN/', run.model.assignment)):
        check_weights(stream, data, prefix)


def check_first_maps(run: Training) -> None:
    """Maps and logits of the assignment network on the first batch, fused as in prediction and as in training."""
    data, model = run.data, run.model
    inputs, samples = run.batch(0)
    model.stream = 'assignment'
    model.test_cfg.update(views=dict(scales=run.args['pseudo_scales'], flip=True))
    for head, name in (('head', 'cam_ps'), ('aux_head', 'cam_aux_ps')):
        model.test_cfg['cam_head'] = head
        with torch.no_grad():
            outputs = model.viewed_outputs(inputs['view_1'])
        stored = data[f'it0/{name}']
        close(outputs['maps'][: len(stored)], stored.astype(np.float32), atol=2e-3)
    stored = data['it0/seg_ps']
    close(outputs['logits'][: len(stored)], stored.astype(np.float32), atol=2e-3, rtol=1e-3)
    labels = torch.stack([sample.image_labels for sample in samples])
    best = label_probabilities(outputs['logits'], labels, run.args['seg_softmaxtemp']).argmax(dim=1)
    assert (best != tensor(data['it0/spl_argmax']).long()).float().mean() <= 0.01


def check_weights(stream: torch.nn.Module, data: dict[str, np.ndarray], prefix: str) -> None:
    selected = {key.removeprefix(prefix): tensor(data[key]) for key in data if key.startswith(prefix)}
    ours = stream.state_dict()
    for name, value in convert_cosa(selected).items():
        error = (ours[name] - value).abs()
        # Adam divides by the size of the gradient, so that single weights with hardly any may differ more.
        assert error.max() <= 2e-4, (prefix, name)
        assert (error > 2e-5).float().mean() <= 1e-3, (prefix, name)


@vectors('cosa', TRAININGS)
def test_skipping_the_warm_up_gives_the_same_weights(path: Path) -> None:
    """Against the same run with all losses computed and multiplied by 0."""
    states = []
    for warmup in ('zero', 'skip'):
        run = Training(path, warmup)
        run.model.warmup_iters = 1
        for index in range(4):
            found = run.step(index)
            assert ('loss_c2s' in found) == (warmup == 'zero' or index > 1)
        states.append(run.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=0, rtol=0, msg=name)


@vectors('cosa', 'evaluate*.npz')
def test_evaluation(path: Path) -> None:
    data = load(path)
    model = build_cosa(official_state(data, 'sd/'), HEADS, AUX_LAYER)
    labeler = PseudoLabeler([dict(type='Refine', refiner=OFFICIAL_CRF, prune=False), dict(type='Decide')])
    confusions: dict[str, Tensor | int] = dict.fromkeys(('seg_ps', 'seg_vd', 'seg_crf', 'cam', 'cam_aux'), 0)
    scores, labels = {'head': [], 'aux_head': []}, []
    for key in (key.removesuffix('img_u8') for key in data if key.endswith('/img_u8')):
        image = planes(data[f'{key}img_u8'])[None].float()
        size = tuple(image.shape[-2:])
        normalised = (image - tensor(np.array(MEAN))[:, None, None]) / tensor(np.array(STD))[:, None, None]
        squashed = half_pixel(normalised.float(), (int(data['eval_size']),) * 2)
        label = tensor(data[f'{key}cls_label'])[None]
        masks = {}
        for head, name in (('head', 'cam'), ('aux_head', 'cam_aux')):
            model.test_cfg.update(views=dict(scales=EVAL_SCALES, flip=True), cam_head=head)
            sample = SegDataSample(metainfo=dict(ori_shape=size))
            sample.image_labels = label[0]
            model.pseudo_labeler = None
            (sample,) = model.predict(squashed, [sample])
            masks[name] = model.decide(sample.localization_maps.data)
            scores[head].append(sample.image_scores)
        masks['seg_ps'], masks['seg_vd'] = sample.pred_sem_seg.data[0], sample.pseudo_mask.data[0]
        probabilities = sample.pseudo_maps.data[None]
        state = labeler(LabelState(probabilities, True, size, images=image, labels=label, bg_setting=1.0))
        masks['seg_crf'] = state.mask[0]
        labels.append(label[0])
        truth = tensor(data[f'{key}gt']).long()
        for name, mask in masks.items():
            assert (mask != tensor(data[f'{key}{name}'])).float().mean() <= 0.005, (key, name)
            confusions[name] += confusion_matrix(mask, truth, model.num_classes, IGNORE)
    for name, conf in confusions.items():
        np.testing.assert_allclose(iou_from_confusion(conf)[0].numpy(), data[f'{name}_iou'], atol=5e-3)
        close(summary_from_confusion(conf)['miou_present'], data[f'{name}_miou'], atol=5e-3)
    views = 2 * len(EVAL_SCALES)
    for found, expected in zip(scores.values(), data['cls_ap']):
        found = [(views * score.double().logit()).float().sigmoid() for score in found]  # theirs are sums over views
        close(average_precision_per_image(torch.stack(found), torch.stack(labels)).mean(), expected, atol=1e-4)
