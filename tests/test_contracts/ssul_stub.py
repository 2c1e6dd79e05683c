"""SSUL's skeleton (Cha et al., NeurIPS 2021) from the contracts alone; a stub, not the method.

A classifier for every step, an output "unknown" that is no class, frozen backbone and old
classifiers, a rule of its own for predictions, and a saliency map beside the labels.
"""

from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mmseg_cil.contracts import FurtherMap, HeadLoss, NetworkChange, PredictionRule
from mmseg_cil.registry import MODELS, TRANSFORMS


class StepClassifiers(nn.Module):
    """A convolution for the classes of each step, and one for the output "unknown"."""

    def __init__(self, plain, sizes):
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(plain.in_channels, size, 1) for size in sizes)
        self.unknown = nn.Conv2d(plain.in_channels, 1, 1)

    @property
    def weight(self):
        return torch.cat([step.weight for step in self.steps])

    @property
    def bias(self):
        return torch.cat([step.bias for step in self.steps])

    def forward(self, inputs):
        return torch.cat([step(inputs) for step in (*self.steps, self.unknown)], dim=1)


@MODELS.register_module(force=True)
class ClassifiersOfSteps(NetworkChange):
    """Puts the classifiers in place, freezes what is old, and keeps "unknown" for tests."""

    extra_outputs = 1

    def install(self, model, learnt):
        self._plain, self._kept, self._hooked = model.decode_head.conv_seg, None, False
        classes = model.step.class_steps
        sizes = [classes.count(step) for step in range(model.step.index + 1)]
        own = StepClassifiers(self._plain, [size for size in sizes if size])
        model.decode_head.conv_seg = own
        if learnt:
            model.backbone.norm_eval = True
            for module in (model.backbone, *own.steps[:-1]):
                module.requires_grad_(False)

    @contextmanager
    def plain_form(self, model):
        own, model.decode_head.conv_seg = model.decode_head.conv_seg, self._plain
        yield
        model.decode_head.conv_seg = own

    @torch.no_grad()
    def begin(self, model, kept):
        own, start = model.decode_head.conv_seg, 0
        for step in own.steps:
            stop = start + step.out_channels
            step.weight.copy_(self._plain.weight[start:stop])
            step.bias.copy_(self._plain.bias[start:stop])
            start = stop
        if kept is not None and kept.is_file():
            # The new classes begin as what was unknown.
            unknown = torch.load(kept, weights_only=True)
            for target in (own.steps[-1], own.unknown):
                target.weight.copy_(unknown['weight'].expand_as(target.weight))
                target.bias.copy_(unknown['bias'].expand_as(target.bias))

    @torch.no_grad()
    def finish(self, model):
        own = model.decode_head.conv_seg
        plain = self._plain.to(own.weight.device)
        plain.weight.copy_(own.weight)
        plain.bias.copy_(own.bias)
        model.decode_head.conv_seg = plain
        self._kept = {key: value.detach() for key, value in own.unknown.state_dict().items()}
        plain.register_forward_hook(self._append_unknown)
        return {key: value.cpu() for key, value in self._kept.items()}

    def restore(self, model, kept):
        self._kept = torch.load(kept, weights_only=True) if kept.is_file() else None

    def _append_unknown(self, classifier, inputs, logits):
        if self._kept is None:
            return logits
        weight, bias = (self._kept[key].to(logits) for key in ('weight', 'bias'))
        return torch.cat([logits, functional.conv2d(inputs[0], weight, bias)], dim=1)


@MODELS.register_module(force=True)
class UnknownIsBackground(PredictionRule):
    """Predict unknown pixels as background."""

    def __call__(self, logits, num_classes):
        background = logits[:, [0, *range(num_classes, logits.shape[1])]].amax(1, keepdim=True)
        return torch.cat([background, logits[:, 1:num_classes]], dim=1).sigmoid()


@TRANSFORMS.register_module(force=True)
class BrightIsSalient(FurtherMap):
    """Stands for a saliency detector: 1 where a pixel is bright."""

    def read(self, results):
        return (results['img'].max(axis=2) > 70).astype(np.uint8)


@MODELS.register_module(force=True)
class UnknownLoss(HeadLoss, nn.Module):
    """Binary cross-entropy; the last step completes the labels, and what is salient is unknown."""

    loss_name = 'loss_unknown'

    def __init__(self, loss_weight=1.0):
        super().__init__()
        self.loss_weight, self.seen = loss_weight, set()

    def set_step(self, step):
        self._step, self._teacher = step, None

    def receive_teacher(self, teacher):
        self._teacher = teacher

    def receive_samples(self, samples):
        self._salient = torch.stack([sample.gt_edge_map.data for sample in samples]).squeeze(1) == 1

    def forward(self, logits, labels, **kwargs):
        target, unlabelled = labels.clone(), labels == 0
        if self._teacher is not None:
            old = functional.interpolate(self._teacher.logits, labels.shape[1:], mode='bilinear')
            target = torch.where(unlabelled, old.argmax(1), target)
        if logits.shape[1] > self._step.num_seen:
            target[unlabelled & (target == 0) & self._salient] = self._step.num_seen
        self.seen |= set(target.unique().tolist())
        ignored = target == 255
        masks = functional.one_hot(target.masked_fill(ignored, 0), logits.shape[1])
        loss = functional.binary_cross_entropy_with_logits(
            logits, masks.movedim(-1, 1).to(logits), reduction='none'
        )
        return self.loss_weight * loss.sum(1).masked_fill(ignored, 0.0).mean()
