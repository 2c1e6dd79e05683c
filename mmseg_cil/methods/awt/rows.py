"""The initialisation of new rows that the background's weights are transferred to."""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.models.classifier import balanced_rows, conv_default_rows
from mmseg_cil.registry import CLASSIFIER_INITS
from mmseg_cil.utils.values import check_choice, check_number

CLASSES = ('each', 'together', 'accumulated')
POOLING = ('max', 'mean')
COMBINE = ('add', 'replace')
BIAS = ('fresh', 'balanced')


@CLASSIFIER_INITS.register_module(name='attributed')
class AttributedRows(ClassifierInit):
    """Rows drawn as for a new convolution, to which ``AttributionTransferHook`` adds (AWT).

    Before a step's first iteration the hook transfers the background's weights to each new row, on
    the channels that the background's logit owes most to at the pixels of the new class. The
    initialisation has the options of the hook, so that a method names both by
    ``classifier_init=dict(type='attributed', ...)``.

    Source: Goswami et al., WACV 2023; dfki-av/AWT-for-CISS ``attribute.py``, ``attribute_class.py``
    and ``segmentation_module.py``.

    Args:
        fraction: Share of the channels that are transferred. Defaults to 0.25, as in the official
            scripts (``--att 25``). With 0 the rows stay as drawn.
        classes: The pixels that choose the channels of a new class. 'each' (default): those of
            this class. 'together': those of all new classes of the step, so that all new rows get
            the same weights, as ``attribute.py`` does, which the official scripts of VOC and
            Cityscapes call. 'accumulated': those of this class and of the new classes before it, as
            ``attribute_class.py`` does, which the scripts of ADE20K but that of 100-5 call: its
            list of maps is never emptied. At a step with a single new class all three are the same.
        pooling: Number that stands for a channel's mean map: its 'max' (default, paper and
            scripts) or its 'mean' (``--avg_after_mean``, ``--mean_after_avg``).
        combine: Whether to 'add' the background's weights to the drawn ones (default, the official
            scripts) or to 'replace' these by them (``--copy``).
        bias: New biases. 'fresh' (default, the official scripts): as drawn. 'balanced'
            (``--copy_bias``): the background shares its bias with the new classes, as in MiB's
            balanced initialisation, and its own bias is lowered alike.
        max_images: The most images to use, spread evenly over the step's images. None: all.
            Defaults to 2000, our choice: the official code uses all images on VOC and
            Cityscapes and the first 2001 on most protocols of ADE20K.

    Raises:
        InputError: An option is out of range.
    """

    needs_background = True
    needs_hook = 'AttributionTransferHook'

    def __init__(
        self,
        fraction: float = 0.25,
        classes: str = 'each',
        pooling: str = 'max',
        combine: str = 'add',
        bias: str = 'fresh',
        max_images: int | None = 2000,
    ) -> None:
        check_number(self, 'fraction', fraction, most=1.0)
        check_choice(self, 'classes', classes, CLASSES)
        check_choice(self, 'pooling', pooling, POOLING)
        check_choice(self, 'combine', combine, COMBINE)
        check_choice(self, 'bias', bias, BIAS)
        if max_images is not None:
            check_number(self, 'max_images', max_images, least=1, whole=True)
        self.fraction = fraction
        self.classes = classes
        self.pooling = pooling
        self.combine = combine
        self.bias = bias
        self.max_images = max_images

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows as drawn, before the hook acts.

        Arguments and result are those of :class:`~mmseg_cil.contracts.ClassifierInit`.
        """
        rows, biases = conv_default_rows(weight, bias, fresh_weight, fresh_bias)
        if self.bias == 'balanced':
            _, biases = balanced_rows(weight, bias, fresh_weight, fresh_bias)
        return rows, biases
