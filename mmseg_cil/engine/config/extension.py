"""The config of an extension: a trained network learns new classes, or a new domain.

The config is written as a file of its own, which a person reads and changes. The bases of the file
are the config of the trained network and the piece of a method; the file itself sets the new data,
the steps and the mask ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.files import BASES
from mmseg_cil.engine.config.first_step import classes_of_network
from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.engine.config.new_data import NewData
from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.data import dataset_of
from mmseg_cil.errors import InputError
from mmseg_cil.models.classifier import find_classifier_init
from mmseg_cil.protocols.taxonomy import is_background
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.config_text import config_text

#: The name of the file in the work directory of the walk.
NAME = 'extension.py'


@dataclass(frozen=True)
class Extension:
    """The new classes, or the new domain, that a trained network is to learn.

    Attributes:
        config: The config that the network was trained with, a path or ``mmseg::...``.
        checkpoint: The checkpoint of the network.
        steps: The new classes of each step; empty: the data are a new domain.
        data: New images.
        domain: The name of the new domain, where no class is new.
        classes: The classes of the network, where neither file names them.
        old_test: Whether the network is scored on the test images of its own config too; where
            the new data have no test images, it is scored on the old ones alone.
        method: A piece of ``configs/_base_/methods``, or the path of a piece; MiB by default.
        iterations: Iterations of each step; None: as in the config.
        lr: Learning rate of each step; None: as in the config.
    """

    config: str
    checkpoint: str
    steps: Sequence[Sequence[str]]
    data: NewData
    domain: str = ''
    classes: Sequence[str] = ()
    old_test: bool = False
    method: str = 'mib'
    iterations: int | None = None
    lr: float | None = None

    def text(self) -> str:
        """Return the text of the config file.

        Raises:
            InputError: A file or folder is missing, or nothing is new.
        """
        old = read_unsettled(self.config)
        path = self.config if '::' in self.config else str(Path(self.config).resolve())
        known = list(self.classes or classes_of_network(self.checkpoint, old))
        protocol = self._protocol(old, path, known)
        settings: dict[str, Any] = dict(
            default_scope='mmseg_cil',
            protocol=protocol,
            # The validation of the old config would read the old data.
            val_dataloader=None,
            val_cfg=None,
            val_evaluator=None,
        )
        given = dict(max_iters=self.iterations, lr=self.lr)
        later = {key: value for key, value in given.items() if value is not None}
        if later:
            settings['step_overrides'] = dict(later=later)
        bases, method = [path], self._method_file()
        piece = read_unsettled(method).to_dict()['method']
        changes = {} if is_background(str(known[0])) else self._without_background(protocol, piece)
        if old.get('protocol') is not None:
            # The network comes from a walk, whose classes and steps are not those of the new one.
            protocol['_delete_'] = True
        if old.get('method') is None:
            bases.append(method)
            if changes:
                settings['method'] = changes
        else:
            # The config belongs to a walk; two bases must not both set a method.
            settings['method'] = dict(_delete_=True, **{**piece, **changes})
        head = '"""A trained network goes on learning; written by mmseg-cil extend."""'
        return f'{head}\n_base_ = {bases!r}\n{config_text(Config(settings))}'

    def _protocol(self, old: Config, path: str, known: Sequence[str]) -> dict[str, Any]:
        names = [name for step in self.steps for name in step]
        if bool(names) == bool(self.domain):
            raise InputError(
                'give either new classes (--new-classes horse sheep) or the name of a new domain '
                '(--domain night)'
            )
        checkpoint = Path(self.checkpoint)
        network: dict[str, Any] = dict(
            config=path,
            checkpoint=str(checkpoint.resolve()) if checkpoint.is_file() else self.checkpoint,
        )
        if self.classes:
            network['classes'] = list(self.classes)
        if self.old_test:
            network['data'] = dict(name='old', test=_old_test(old, self.config))
        data = self.data.settings(names, known, old)
        if self.old_test and not self.data.has_test:
            # Leave the new images without a score rather than score images that are trained on.
            data.pop('test', None)
        protocol: dict[str, Any] = dict(name='extended', dataset='new_images', checkpoint=network)
        if names:
            protocol['steps'] = [dict(classes=list(step), data=data) for step in self.steps]
        else:
            protocol['domains'] = [dict(name='trained'), dict(name=self.domain, data=data)]
        return protocol

    def _without_background(
        self, protocol: dict[str, Any], piece: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Set the meaning of unlabelled pixels, and return the changes to a method.

        Unlabelled pixels show one of the old classes if all losses of the method can learn that
        and nothing else is asked for. New classifier rows that would be initialised from the
        background's row are initialised at random instead.
        """
        if not self.steps:
            return {}
        method = settled(piece, protocol['name'], by_domain=False)
        losses = method.get('loss_decode') or []
        kinds = [
            MODELS.get(loss['type']) for loss in ([losses] if isinstance(losses, dict) else losses)
        ]
        known = bool(kinds) and all(getattr(k, 'knows_hidden_classes', False) for k in kinds)
        asked = self.data.unlabelled or (
            'old' if known and self.data.old_labels != 'used' else 'void'
        )
        protocol['policy'] = dict(unlabelled=asked)
        init = find_classifier_init(method.get('classifier_init', 'random'))
        return dict(classifier_init='random') if init.needs_background else {}

    def _method_file(self) -> str:
        method = self.method
        path = Path(method) if method.endswith('.py') else None
        if path is not None and path.is_file():
            return str(path.resolve())
        if path is not None or not (BASES / 'methods' / f'{method}.py').is_file():
            raise InputError(f'there is no method {method}: mmseg-cil methods lists them')
        return f'mmseg_cil::_base_/methods/{method}.py'


def _old_test(old: Config, path: str) -> dict[str, Any]:
    given = dataset_of(old, 'test')
    if given is None:
        raise InputError(
            f'{path} has no test_dataloader with a dataset, which --old-test scores on: add one '
            'to the config, or leave --old-test out'
        )
    dataset: dict[str, Any] = Config(dict(dataset=given)).to_dict()['dataset']
    return dataset
