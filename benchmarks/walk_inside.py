"""One walk of ``benchmarks/walk.py``: ``mmseg-cil train`` with a clock on its phases.

    python benchmarks/walk_inside.py RESULT STARTED PLAIN ARGUMENTS_OF_TRAIN...

``STARTED`` is the time of the command by the monotonic clock, ``PLAIN`` 1 or 0.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from walk_clock import PHASES, PURPOSE, Clock


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def outside(spent: Mapping[str, float], now: float) -> float:
    """Return a time from which that of iterations and evaluation is taken off."""
    return now - sum(spent.get(phase, 0.0) for phase in PURPOSE)


def make_plain() -> None:
    """Let the walk do as MMEngine alone would; before anything of the package is imported."""
    from mmseg_cil.utils import config_text, deferred, described_machine, later_figure

    deferred.WAITING.clear()
    later_figure.figures_later = contextlib.nullcontext
    described_machine.described_once = contextlib.nullcontext
    config_text.without_yapf = lambda cfg: cfg
    config_text.with_line_breaks = lambda text: text


def main() -> None:
    """Walk, and write the times."""
    result, started, plain, *words = sys.argv[1:]
    clock = Clock()
    clock.watch_imports()
    if plain == '1':
        make_plain()
    from mmseg_cil.cli.commands import find_command

    command = find_command('train')
    args = command.make_parser().parse_args(words)
    import mmseg_cil.engine.commands as commands

    clock.watch_all()
    found: dict[str, float] = {}
    run = commands.WalkRunner.run

    def timed_run(runner: commands.WalkRunner) -> None:
        steps = found['steps'] = len(runner.steps)
        begun = outside(clock.seconds, clock.now()), outside(clock.processor, clock.used())
        run(runner)
        ended = outside(clock.seconds, clock.now()), outside(clock.processor, clock.used())
        found['idle_a_step'] = (ended[0] - begun[0]) / steps
        found['used_a_step'] = (ended[1] - begun[1]) / steps

    commands.WalkRunner.run = timed_run  # type: ignore[method-assign]
    command.run(args)
    clock.leave()
    content = {
        'seconds': clock.seconds,
        'processor': clock.processor,
        'calls': {phase: clock.calls[phase] for phase in PHASES if phase in clock.calls},
        **found,
        'first_iteration': clock.marks['first iteration'][0] - float(started),
        'used_before': clock.marks['first iteration'][1],
        'cpu': processor_seconds(),
    }
    Path(result).write_text(json.dumps(content))


if __name__ == '__main__':
    from mmseg_cil.utils.cli import run_tool

    run_tool(main)
