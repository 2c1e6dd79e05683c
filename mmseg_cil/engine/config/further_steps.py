"""The config of a finished walk that goes on with steps that did not exist when it began."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.new_data import NewData
from mmseg_cil.engine.record.config_copy import NAME, load_copy
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.errors import InputError

#: Settings of a named protocol whose meaning a list of steps includes.
_OF_NAMES = ('class_order', 'counting', 'split', 'steps')


@dataclass(frozen=True)
class FurtherSteps:
    """The new classes, or the new domain, that a finished walk is to learn in further steps.

    Attributes:
        work_dir: Work directory of the walk.
        steps: The new classes of each step; empty: the data are a new domain.
        data: New images.
        domain: The name of the new domain, where no class is new.
        iterations: Iterations of each new step; None: as in the walk.
        lr: Learning rate of each new step; None: as in the walk.
    """

    work_dir: Path
    steps: Sequence[Sequence[str]]
    data: NewData
    domain: str = ''
    iterations: int | None = None
    lr: float | None = None

    def config(self) -> Config:
        """Return the config of the walk with the further steps.

        A walk that was stopped in one of the further steps has them already and keeps its config.

        Raises:
            InputError: There is no finished walk, or the walk cannot have such steps.
        """
        journal = Journal.load(self.work_dir)
        if journal is None:
            raise InputError(f'{self.work_dir} holds no walk: give the folder of a finished one')
        cfg = load_copy(self.work_dir / NAME)
        description = journal.content['protocol']
        by_domain = description['kind'] == 'domain'
        if by_domain == bool(self.steps) or bool(self.steps) == bool(self.domain):
            wanted = '--domain NAME' if by_domain else '--new-classes'
            raise InputError(
                f'{self.work_dir} is a walk by {description["kind"]}: give {wanted}, and nothing '
                'else that is new'
            )
        before = list(cfg.protocol.get('domains' if by_domain else 'steps') or ())
        count = len(self.steps) or 1
        there = self._entries(cfg, description, len(before) - count)
        if [_plain(entry) for entry in before[-count:]] == [_plain(entry) for entry in there]:
            return cfg
        self._check_new(description)
        policy = description['policy'].get('unlabelled', 'void')
        if self.data.unlabelled == 'old' and policy != 'old':
            raise InputError(
                f'{self.work_dir}: --unlabelled old is decided where a walk begins, and this one '
                'has protocol.policy.unlabelled void: leave it out'
            )
        open_steps = [k for k in range(len(description['steps'])) if not journal.is_done(k)]
        if open_steps:
            raise InputError(
                f'step {open_steps[0]} of {self.work_dir} is not done: finish the walk first, by '
                f'mmseg-cil train {self.work_dir / NAME} --work-dir {self.work_dir} --resume'
            )
        cfg = copy.deepcopy(cfg)
        added = self._entries(cfg, description, len(description['steps']))
        cfg.protocol = self._protocol(cfg, description, added)
        self._set_lengths(cfg, len(description['steps']), count)
        return cfg

    def _check_new(self, description: Mapping[str, Any]) -> None:
        """Refuse new classes that the network knows already."""
        names = {name for step in self.steps for name in step}
        again = sorted(names & {*_known(description)})
        if again:
            raise InputError(
                f'{again[0]!r} is a class that the network of {self.work_dir} knows already; a '
                'later step can only add others'
            )

    def _entries(
        self, cfg: Config, description: Mapping[str, Any], first: int
    ) -> list[dict[str, Any]]:
        """Return the config's entries for the further steps, the first of which is ``first``."""
        names = [name for step in self.steps for name in step]
        data = self.data.settings(names, _known(description), cfg)
        if not self.data.name:
            # Steps of the walk may have brought data sets already.
            data['name'] = f'step_{first:02d}'
        if names:
            return [dict(classes=list(step), data=data) for step in self.steps]
        return [dict(name=self.domain, data=data)]

    def _protocol(
        self, cfg: Config, description: Mapping[str, Any], added: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        protocol: dict[str, Any] = cfg.protocol.to_dict()
        if description['kind'] == 'domain':
            if not protocol.get('domains'):
                raise InputError(
                    f'{protocol["name"]} is a protocol whose domains have names of their own: '
                    'a further one needs a walk whose config lists them (protocol.domains)'
                )
            protocol['domains'] = [*protocol['domains'], *added]
            if protocol.get('domain_steps') is not None:
                last = [self.domain]
                protocol['domain_steps'] = [*protocol['domain_steps'], last]
            return protocol
        if protocol.get('steps') is None:
            # List the steps that the name stood for, class by class.
            listed = [list(step['new']) for step in description['steps']]
            protocol = {key: value for key, value in protocol.items() if key not in _OF_NAMES}
            name = f'{protocol["name"]}_and_more'
            protocol.update(name=name, dataset=description['dataset'], steps=listed)
        protocol['steps'] = [*protocol['steps'], *added]
        return protocol

    def _set_lengths(self, cfg: Config, first: int, count: int) -> None:
        given = dict(max_iters=self.iterations, lr=self.lr)
        changes = {key: value for key, value in given.items() if value is not None}
        if not changes:
            return
        overrides = dict(cfg.get('step_overrides') or {})
        for step in range(first, first + count):
            former = {k: v for k, v in overrides.get(step, {}).items() if k != 'max_epochs'}
            overrides[step] = {**former, **changes}
        cfg.step_overrides = overrides


def _known(description: Mapping[str, Any]) -> list[str]:
    last = description['steps'][-1]
    return [*last['old'], *last['new']]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if key != 'pipeline'}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
