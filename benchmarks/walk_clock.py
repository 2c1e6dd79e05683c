"""The clock of ``benchmarks/walk.py``: it notes how long a walk is in each of its phases.

A phase is a function of the walk, or several. The time of a function within another phase's
function counts for the inner phase alone, so that the phases add up to the whole; phases that are
closed (the rehearsal, which builds, trains and tests) keep all of their time but that of imports.
"""

from __future__ import annotations

import functools
import importlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

#: Phases by name, in the order of the table, with the functions that each consists of.
PHASES: dict[str, tuple[str, ...]] = {
    'import': ('_frozen_importlib:_find_and_load',),
    'config': (
        'mmseg_cil.engine.commands:walk_config',
        'mmseg_cil.engine.walk_runner:training_config',
        'mmseg_cil.engine.preflight.parts:training_config',
    ),
    'config formatting': (
        'mmengine.config:Config.pretty_text',
        'mmengine.config:Config.dump',
        'mmseg_cil.engine.commands:config_text',
        'mmseg_cil.engine.export.config:config_text',
    ),
    'index': (
        'mmseg_cil.engine.preflight.prepare:read_data',
        'mmseg_cil.engine.preflight.prepare:read_validation_data',
    ),
    'checks': ('mmseg_cil.engine.walk_runner:WalkRunner.prepare',),
    'rehearsal': ('mmseg_cil.engine.walk_runner:rehearse',),
    'build': (
        'mmengine.runner:Runner.__init__',
        'mmengine.runner:Runner.train',
        'mmengine.runner:Runner.build_test_loop',
    ),
    'workers': ('torch.utils.data:DataLoader._get_iterator',),
    'first batches': (),
    'iterations': ('mmengine.runner:IterBasedTrainLoop.run',),
    'hooks': ('mmseg_cil.engine.runner.step_runner:after_step',),
    'checkpoints': (
        'mmseg_cil.hooks.step_checkpoint_hook:StepCheckpointHook.save',
        'mmengine.runner:Runner.load_or_resume',
    ),
    'evaluation': ('mmengine.runner:TestLoop.run',),
    'pictures': ('mmseg_cil.engine.predictions:predict_samples',),
    'export': ('mmseg_cil.engine.walk_runner:export_step',),
    'record': (
        'mmseg_cil.engine.record.journal:Journal._write',
        'mmseg_cil.engine.walk_runner:record_scores',
        'mmseg_cil.engine.walk_runner:write_metrics',
        'mmseg_cil.engine.walk_runner:open_journal',
    ),
    'release': ('gc:collect',),
    'report': ('mmseg_cil.engine.commands:_render',),
}
#: Phases that are a walk's purpose; all others are idle time.
PURPOSE = ('iterations', 'evaluation')
#: Phases whose time includes that of the functions of others.
CLOSED = ('rehearsal',)
#: The phase of everything else.
REST = 'other'


class Clock:
    """Seconds of each phase; the innermost running phase counts.

    Args:
        now: Function that returns the time in seconds.
        used: Function that returns the processor time of this process in seconds.

    Attributes:
        seconds: Seconds by phase.
        processor: Seconds of processor time of this process by phase.
        calls: Calls by phase, of its outermost functions alone.
        marks: Time, and processor time so far, of moments by name.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self.now, self.used = now, used
        self.seconds: dict[str, float] = defaultdict(float)
        self.processor: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.marks: dict[str, tuple[float, float]] = {}
        self._running: list[str] = [REST]
        self._since, self._used_since = now(), used()

    def enter(self, phase: str) -> None:
        """Begin a phase, unless a closed phase runs."""
        running = self._running[-1]
        if running in CLOSED and phase != 'import':
            phase = running
        if phase != running:
            self.calls[phase] += 1
        self._book()
        self._running.append(phase)

    def leave(self) -> None:
        """End the phase that began last."""
        self._book()
        self._running.pop()

    def mark(self, name: str) -> None:
        """Note the moment, if it is the first of its name."""
        self.marks.setdefault(name, (self.now(), self.used()))

    def _book(self) -> None:
        now, used, phase = self.now(), self.used(), self._running[-1]
        self.seconds[phase] += now - self._since
        self.processor[phase] += used - self._used_since
        self._since, self._used_since = now, used

    def wrap(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        """Return a function whose calls count for a phase."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self.enter(phase)
            try:
                return function(*args, **options)
            finally:
                self.leave()

        return timed

    def watch(self, target: str, phase: str) -> None:
        """Let the calls of a function count for a phase.

        Args:
            target: The function, as ``module:name`` or ``module:class.name``.
            phase: The phase.
        """
        name, _, path = target.partition(':')
        owner: Any = sys.modules.get(name) or importlib.import_module(name)
        *outer, last = path.split('.')
        for part in outer:
            owner = getattr(owner, part)
        former = owner.__dict__[last]
        if isinstance(former, property):
            assert former.fget is not None
            setattr(owner, last, former.getter(self.wrap(former.fget, phase)))
        else:
            setattr(owner, last, self.wrap(former, phase))

    def watch_imports(self) -> None:
        """Count imports from now on; the other phases need modules that are imported."""
        self._watch('import')

    def watch_all(self) -> None:
        """Count every phase from now on."""
        for phase in PHASES:
            if phase != 'import':
                self._watch(phase)
        self._watch_first_batches()
        self._mark_first_iteration()

    def _watch_first_batches(self) -> None:
        """Count the wait for the first batch of each iterator over a loader apart."""
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        later = _BaseDataLoaderIter.__next__
        first = self.wrap(later, 'first batches')

        def following(iterator: Any) -> Any:
            if iterator.__dict__.setdefault('_has_begun', False):
                return later(iterator)
            iterator._has_begun = True
            return first(iterator)

        _BaseDataLoaderIter.__next__ = following  # type: ignore[method-assign]

    def _mark_first_iteration(self) -> None:
        """Note the end of the first iteration of training."""
        from mmengine.runner import IterBasedTrainLoop

        run_iter = IterBasedTrainLoop.run_iter

        def marking(loop: Any, batch: Any) -> None:
            run_iter(loop, batch)
            self.mark('first iteration')

        IterBasedTrainLoop.run_iter = marking  # type: ignore[method-assign]

    def _watch(self, phase: str) -> None:
        for target in PHASES[phase]:
            self.watch(target, phase)
