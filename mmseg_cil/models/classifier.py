"""Growth of a 1x1 classifier by the rows of new classes, and initialisations of these rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.contracts.check import require_contract
from mmseg_cil.errors import InputError
from mmseg_cil.registry import CLASSIFIER_INITS
from mmseg_cil.utils.values import check_number

#: Minus this number is far below any logit, and within the range of half precision.
_NEVER = 1e4


def random_rows(
    weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Keep the old rows, and take the new rows as the head itself initialises them.

    Args:
        weight: ``(O, D, ...)`` rows of the old classes, background first.
        bias: ``(O,)``.
        fresh_weight: ``(K, D, ...)`` freshly initialised rows of the new classes.
        fresh_bias: ``(K,)``.

    Returns:
        Weight ``(O + K, D, ...)`` and bias ``(O + K,)``.
    """
    return torch.cat([weight, fresh_weight]), torch.cat([bias, fresh_bias])


def balanced_rows(
    weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Share the background's probability with the new classes: MiB's balanced initialisation.

    New rows are copies of the background's row. The new biases and the background's own
    bias are the background's old bias minus ``log(K + 1)``, so that the K + 1 equal
    probabilities sum to the background's old probability, and those of other classes are
    unchanged.

    Source: Cermelli et al., CVPR 2020, equations 9 and 10 (where the background
    class is shifted in the same way); fcdl94/MiB ``segmentation_module.py``,
    ``init_new_classifier``. Arguments and result as in :func:`random_rows`.

    Example:
        >>> rows = torch.ones(1, 2), torch.zeros(1)
        >>> weight, bias = balanced_rows(*rows, torch.zeros(1, 2), torch.zeros(1))
        >>> # Background and the new class share the background's probability.
        >>> bias.exp().tolist()
        [0.5, 0.5]
    """
    num_new = fresh_weight.shape[0]
    shared = bias[0] - math.log(num_new + 1)
    weight = torch.cat([weight, weight[:1].expand_as(fresh_weight)])
    bias = torch.cat([shared[None], bias[1:], shared.expand_as(fresh_bias)])
    return weight, bias


def copied_background_rows(
    weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Copy the background's weights to the new rows; the new biases stay fresh.

    Source: zhangchbin/RCIL ``segmentation_module.py``, ``init_new_classifier``
    (VOC and ADE). Arguments and result as in :func:`random_rows`.
    """
    weight = torch.cat([weight, weight[:1].expand_as(fresh_weight)])
    return weight, torch.cat([bias, fresh_bias])


def conv_default_rows(
    weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw the new rows as for a new ``nn.Conv2d``, independently of the head's initialisation.

    Weights and biases are uniform in +-1 / sqrt(inputs of a row), so that 256 channels give a
    standard deviation of 0.036; MMSegmentation's heads begin with 0.01 and bias 0.

    Source: fcdl94/MiB ``segmentation_module.py``, where every step has a convolution of its own,
    for fine-tuning, LwF, LwF-MC and ILT. Arguments and result as in :func:`random_rows`.
    """
    bound = 1 / math.sqrt(fresh_weight[0].numel()) if len(fresh_weight) else 0.0
    fresh = (
        torch.empty_like(tensor).uniform_(-bound, bound) for tensor in (fresh_weight, fresh_bias)
    )
    return random_rows(weight, bias, *fresh)


def lowered_background_rows(
    weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor, shift: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Copy the background's row to the new rows, with a lower bias, and keep all old rows.

    Each new class begins with ``exp(-shift)`` of the background's probability. The order of scores
    is then as with the balanced initialisation, but the background's row does not move; a penalty
    on the weights would pull a moved row back.

    Source: ours. Arguments and result as in :func:`random_rows`.
    """
    weight = torch.cat([weight, weight[:1].expand_as(fresh_weight)])
    return weight, torch.cat([bias, (bias[0] - shift).expand_as(fresh_bias)])


def unpredicted_rows(
    weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Set the new rows to zero, with a bias so low that new classes are never predicted.

    Without training, the network keeps its scores on old classes and scores 0 on the new ones.
    This gives a walk that learns nothing, as a baseline for other walks. The rows are not meant
    to be trained.

    Source: ours. Arguments and result as in :func:`random_rows`.
    """
    return random_rows(
        weight, bias, torch.zeros_like(fresh_weight), torch.full_like(fresh_bias, -_NEVER)
    )


@CLASSIFIER_INITS.register_module(name='random')
class RandomRows(ClassifierInit):
    """Registered form of :func:`random_rows`."""

    __call__ = staticmethod(random_rows)


@CLASSIFIER_INITS.register_module(name='unpredicted')
class UnpredictedRows(ClassifierInit):
    """Registered form of :func:`unpredicted_rows`."""

    needs_bias = True
    __call__ = staticmethod(unpredicted_rows)


@CLASSIFIER_INITS.register_module(name='conv_default')
class ConvDefaultRows(ClassifierInit):
    """Registered form of :func:`conv_default_rows`."""

    __call__ = staticmethod(conv_default_rows)


@CLASSIFIER_INITS.register_module(name='balanced')
class BalancedRows(ClassifierInit):
    """Registered form of :func:`balanced_rows`."""

    needs_background = True
    __call__ = staticmethod(balanced_rows)


@CLASSIFIER_INITS.register_module(name='copied_background')
class CopiedBackgroundRows(ClassifierInit):
    """Registered form of :func:`copied_background_rows`."""

    needs_background = True
    __call__ = staticmethod(copied_background_rows)


@CLASSIFIER_INITS.register_module(name='lowered_background')
class LoweredBackgroundRows(ClassifierInit):
    """Registered form of :func:`lowered_background_rows`.

    Args:
        shift: Difference of the background's bias and the biases of new rows. Defaults to 2,
            our choice.

    Raises:
        InputError: ``shift`` is no number, or negative.
    """

    needs_background = True

    def __init__(self, shift: float = 2.0) -> None:
        check_number(self, 'shift', shift)
        self.shift = shift

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :func:`lowered_background_rows`."""
        return lowered_background_rows(weight, bias, fresh_weight, fresh_bias, self.shift)


@CLASSIFIER_INITS.register_module(name='imprinted')
class ImprintedRows(RandomRows):
    """Random rows, which ``ImprintClassifierHook`` replaces after a pass over the step's images."""

    needs_hook = 'ImprintClassifierHook'


def find_classifier_init(
    config: str | Mapping[str, Any], has_background: bool = True
) -> ClassifierInit:
    """Build the initialisation of a config's ``classifier_init``.

    Args:
        config: A name in the registry :data:`~mmseg_cil.registry.CLASSIFIER_INITS`, or
            ``dict(type=name, ...)`` with arguments.
        has_background: Output 0 is the background.

    Raises:
        InputError: The name is unknown, or the initialisation reads the
            background's row and there is no background.
    """
    given = {'type': config} if isinstance(config, str) else dict(config)
    name = given.get('type')
    if not isinstance(name, str) or CLASSIFIER_INITS.get(name) is None:
        known = list(CLASSIFIER_INITS.module_dict)
        raise InputError(f'unknown classifier_init {name!r}: use one of {known}')
    found: ClassifierInit = CLASSIFIER_INITS.build(given)
    require_contract(found, ClassifierInit, 'method.classifier_init')
    if found.needs_background and not has_background:
        raise InputError(
            f'classifier_init={name!r} copies the row of the background, and the classes of this '
            "protocol have none: use 'random' or 'imprinted'"
        )
    return found


def imprinted_rows(
    weight: Tensor,
    bias: Tensor,
    embedding_sums: Tensor,
    counts: Tensor,
    num_old: int,
    has_background: bool = True,
) -> tuple[Tensor, Tensor]:
    """Replace the rows of new classes by the direction of their mean embedding.

    A new row has the direction of the mean of the unit-length embeddings of its class's
    pixels. The row's length and bias are the mean length and the mean bias of the old
    foreground rows, so that new and old scores are commensurate. A class without a pixel
    keeps its row and bias.

    Source: Qi et al., "Low-Shot Learning with Imprinted Weights", CVPR 2018,
    section 3.2. Length and bias are our choice: in the paper all rows have unit
    length and no bias, unlike the rows of MMSegmentation's classifiers.

    Args:
        weight: ``(C, D, ...)`` rows of all classes.
        bias: ``(C,)``.
        embedding_sums: ``(K, D)`` sums of unit-length embeddings of the new classes.
        counts: ``(K,)`` number of pixels in each sum.
        num_old: Number of rows of old classes (background included), at least 1.
        has_background: Row 0 is the background. The background's length and bias count
            only if row 0 is the only old row.

    Returns:
        New weight and bias, of the same shapes.
    """
    first = 1 if has_background and num_old > 1 else 0
    length = weight[first:num_old].flatten(1).norm(dim=1).mean()
    directions = torch.nn.functional.normalize(embedding_sums, dim=1).to(weight)
    rows = (directions * length).reshape(-1, *weight.shape[1:])
    present = counts.to(weight.device) > 0
    weight, bias = weight.clone(), bias.clone()
    weight[num_old:][present] = rows[present]
    bias[num_old:][present] = bias[first:num_old].mean()
    return weight, bias
