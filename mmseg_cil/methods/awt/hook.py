"""The transfer of the background's weights to the rows of new classes before a step."""

from __future__ import annotations

from mmengine.runner import Runner
from mmseg.models.decode_heads import PointHead
from torch import nn

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_images import step_batches
from mmseg_cil.methods.awt.attribution import chosen_channels, class_attributions, transfer
from mmseg_cil.methods.awt.rows import AttributedRows
from mmseg_cil.models.classifier import find_classifier_init
from mmseg_cil.models.heads import classifier_of
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class AttributionTransferHook(StepHook):
    """Transfers background weights to the rows of new classes before a step's first iteration.

    ``classifier_init='attributed'`` adds this hook and holds its options
    (:class:`~mmseg_cil.methods.awt.rows.AttributedRows`). The hook acts at a step that has new
    classes, after a step that trained, and that is not resumed: a state that training goes on from
    is saved after an iteration, so its rows have got the weights already.

    One pass over images of the step, without exemplars, with the last step's network in evaluation
    mode, gives the attribution of the background's logit to each channel at the pixels of each new
    class, for the decode head and each auxiliary head. The attribution is integrated gradients in
    closed form. Every process takes a part of the images. An image is augmented by a seed of its
    own, so the rows depend neither on the number of processes nor on workers, and the random
    streams of training are left as they were. A class without a pixel keeps its row as drawn.
    Further classifiers of a head (``DAHead``, ``EncHead``, ``PointHead``) keep theirs too. Rows of
    self-supervision begin as copies of the rows after the transfer.
    """

    # The hook acts before hooks that copy the weights when training begins (EMAHook).
    priority = 'HIGH'
    rehearsed = True

    def check_network(self, network: nn.Module) -> None:
        """Check before training that each classifier is linear in the embedding of a pixel.

        Raises:
            InputError: A classifier's kernel is not 1x1.
        """
        if not isinstance(network, IncrementalEncoderDecoder):
            return
        for name, head in network.heads.items():
            if isinstance(head, PointHead):
                continue
            size = tuple(classifier_of(head).kernel_size)
            if size != (1, 1):
                raise InputError(
                    f"classifier_init='attributed': {name}.conv_seg has a kernel of {size}, and "
                    'attributions are computed for 1x1 alone: use a head whose classifier is 1x1, '
                    "or another classifier_init, such as 'balanced'"
                )

    def before_train(self, runner: Runner) -> None:
        """Transfer the weights, where there is something to transfer."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder):
            return
        step = model.step
        if runner.iter > 0 or not step.trained or step.num_new == 0:
            return
        rows = find_classifier_init(model.classifier_init, step.has_background)
        if not isinstance(rows, AttributedRows) or rows.fraction == 0:
            return
        found = class_attributions(model, step_batches(runner, rows.max_images))
        chosen = {
            name: chosen_channels(sums, images, rows.fraction, rows.classes, rows.pooling)
            for name, (sums, images) in found.items()
        }
        transfer(model, chosen, rows.combine)
        for name, channels in chosen.items():
            empty = [step.num_old + k for k, row in enumerate(channels) if not row.any()]
            if empty:
                runner.logger.warning(
                    f'AWT: no image shows the new classes {empty} (model ids) to {name}, so their '
                    'rows begin as drawn'
                )
            runner.logger.info(
                f'AWT: {step.num_new - len(empty)} new rows of {name} have got the weights of the '
                f'background on {int(channels.sum(dim=1).max())} of {channels.shape[1]} channels'
            )
