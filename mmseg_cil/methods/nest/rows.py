"""The initialisation with rows that NeST has pre-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.errors import InputError
from mmseg_cil.models.classifier import find_classifier_init
from mmseg_cil.registry import CLASSIFIER_INITS
from mmseg_cil.utils.finite import not_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights


@CLASSIFIER_INITS.register_module(name='pre_tuned')
class PreTunedRows(ClassifierInit):
    """The rows that the sub-step ``PreTuneClassifier`` has left, which also puts this in place.

    The file has rows of all classes for the classifier of each head: the background's row moves
    (see :func:`~mmseg_cil.methods.nest.transfer.finished_rows`), other old rows stay. Further
    layers with a row a class (``DAHead``, ``EncHead``, ``PointHead``) begin by another
    initialisation.

    Args:
        rows: File of the rows, by the names of the layers. None: the sub-step is missing.
        otherwise: Initialisation of layers that the file does not have, that of the method.

    Raises:
        InputError: ``rows`` is None, or ``otherwise`` is unknown.
    """

    def __init__(
        self, rows: str | None = None, otherwise: str | Mapping[str, Any] = 'random'
    ) -> None:
        if rows is None:
            raise InputError(
                "classifier_init='pre_tuned' is set by the sub-step that makes the rows: name "
                "another initialisation, and list sub_steps=[dict(type='PreTuneClassifier')] in "
                'the method'
            )
        self.rows = rows
        self.otherwise = find_classifier_init(otherwise)

    def of_layer(self, name: str) -> ClassifierInit:
        """Return the rows of one layer, or the other initialisation for it.

        Raises:
            InputError: The file is missing or damaged.
        """
        layers = read_rows(Path(self.rows))
        if name in layers:
            return RowsOfLayer(layers[name], f'{self.rows}, {name}')
        return self.otherwise.of_layer(name)

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return rows by the other initialisation, for a layer without a name.

        Arguments and result are those of :class:`~mmseg_cil.contracts.ClassifierInit`.
        """
        return self.otherwise(weight, bias, fresh_weight, fresh_bias)


class RowsOfLayer(ClassifierInit):
    """The rows of one layer as they are told.

    Args:
        rows: ``weight`` ``(O + K, D)`` and, where the layer has biases, ``bias`` ``(O + K,)``.
        source: Where they come from, for messages.
    """

    def __init__(self, rows: Mapping[str, Tensor], source: str) -> None:
        self.rows, self.source = rows, source

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of all classes.

        Arguments and result are those of :class:`~mmseg_cil.contracts.ClassifierInit`.

        Raises:
            InputError: The rows are of another network or step.
        """
        shape = (len(weight) + len(fresh_weight), *weight.shape[1:])
        rows, biases = self.rows['weight'], self.rows.get('bias')
        if rows.numel() != shape[0] * weight[0].numel() or len(rows) != shape[0]:
            raise InputError(
                f'{self.source}: {tuple(rows.shape)} rows do not fit {shape}: delete the folder of '
                'the sub-step and go on with --resume, which pre-tunes the rows again'
            )
        return (
            rows.reshape(shape).to(weight),
            torch.cat([bias, fresh_bias]) if biases is None else biases.to(bias),
        )


def read_rows(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read a file of rows by the names of their layers.

    Raises:
        InputError: The file is missing or damaged, or holds numbers that are not finite.
    """
    try:
        content = read_weights(path)
        layers = {
            name: {key: value for key, value in layer.items() if isinstance(value, Tensor)}
            for name, layer in content['layers'].items()
        }
        bad = [name for name, layer in layers.items() if 'weight' not in layer or not_finite(layer)]
        if bad:
            raise ValueError(f'{bad[0]} has no rows, or rows that are not finite')
    except NotDataError:
        raise
    except Exception as error:
        raise InputError(
            f'the pre-tuned rows in {path} cannot be read ({error}): delete the folder of the '
            'sub-step and go on with --resume, which pre-tunes the rows again'
        ) from error
    return layers
