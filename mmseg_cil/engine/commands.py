"""The work of ``mmseg-cil train``, ``test`` and ``probe``, without argument parsing."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import is_cuda_available
from mmengine.dist import get_rank, get_world_size

from mmseg_cil.engine.config.compose import KINDS, compose
from mmseg_cil.engine.config.load import load_config, read_unsettled, with_options
from mmseg_cil.engine.config.mixed_precision import use_mixed_precision
from mmseg_cil.engine.config.protocol_pieces import settle
from mmseg_cil.engine.config.provenance import described
from mmseg_cil.engine.config.published.settings import as_published, notes_on_published
from mmseg_cil.engine.evaluate import evaluate_step, open_walk, outdated_steps, write_metrics
from mmseg_cil.engine.preflight.names import with_names_allowed, with_variables_allowed
from mmseg_cil.engine.preflight.parts import expected_inputs
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.probe import NAME as PROBE
from mmseg_cil.engine.probe import ProbeSettings, probe_walk
from mmseg_cil.engine.record.completeness import check_trained_steps
from mmseg_cil.engine.record.config_copy import NAME as CONFIG_COPY
from mmseg_cil.engine.record.config_copy import load_copy
from mmseg_cil.engine.record.earlier import recognise_counts
from mmseg_cil.engine.record.fingerprint import EVALUATION, evaluation_of, training_fingerprints
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.lock import work_dir_lock
from mmseg_cil.engine.record.verify import check_same_walk
from mmseg_cil.engine.runner.distributed import decided_by_main, process_group
from mmseg_cil.engine.step_configs import training_config
from mmseg_cil.engine.sub_steps.run import rescore_sub_steps
from mmseg_cil.engine.walk import Walk
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import write_json, write_text
from mmseg_cil.utils.config_text import config_text
from mmseg_cil.utils.quiet import quieten_warnings


def train(args: argparse.Namespace) -> None:
    """Walk a schedule and render its report.

    Raises:
        InputError: Something the user gave is wrong.
    """
    quieten_warnings()
    cfg = walk_config(args)
    set_ways_to_run(cfg, args.amp, not getattr(args, 'no_rehearsal', False))
    if args.print_config:
        print(config_text(cfg))
        return
    note_published(cfg)
    default_dir = cfg.get('work_dir') or f'work_dirs/{Path(cfg.filename).stem}'
    work_dir = Path(args.work_dir or default_dir)
    if getattr(args, 'print_step_config', None) is not None:
        print_step_config(cfg, work_dir, args.print_step_config)
        return
    run_walk(
        cfg,
        work_dir,
        args.launcher,
        args.resume,
        args.accept_changes,
        args.start_from,
        args.steps,
        getattr(args, 'overwrite', False),
        getattr(args, 'break_lock', False),
        not args.no_report,
    )


def set_ways_to_run(cfg: Config, amp: bool, rehearsal: bool) -> None:
    """Turn mixed precision on, or the rehearsal off, in place.

    Args:
        cfg: The user's config.
        amp: Whether to train in mixed precision.
        rehearsal: Whether the config decides about the rehearsal; else there is none.
    """
    if amp:
        use_mixed_precision(cfg, is_cuda_available())
    if not rehearsal:
        cfg.rehearsal = False


def note_published(cfg: Config) -> None:
    """Replace ``as_published``, where it is on, by the notes that the steps' logs begin with."""
    if cfg.get('as_published'):
        # The notes describe the config as it is now, with all options.
        cfg.as_published = notes_on_published(cfg)


def run_walk(
    cfg: Config,
    work_dir: Path,
    launcher: str = 'none',
    resume: bool = False,
    accept_changes: bool = False,
    start_from: str | None = None,
    steps: str | None = None,
    overwrite: bool = False,
    break_lock: bool = False,
    report: bool = True,
) -> None:
    """Walk, while nobody else writes in the work directory, and render the report.

    Args:
        cfg: The user's config, settled.
        work_dir: Work directory of the walk; :class:`WalkRunner` explains it and the following
            arguments.
        launcher: The launcher that started the processes.
        resume: Go on with the walk in the work directory; the config may ask for it too.
        accept_changes: Resume although something was changed.
        start_from: The run whose steps are taken over; the config may name it too.
        steps: The steps to walk, as ``--steps`` names them; None: all.
        overwrite: Begin the walk anew.
        break_lock: Take the lock from a dead process of another machine.
        report: Whether to render the report.

    Raises:
        InputError: Something the user gave is wrong.
    """
    with process_group(launcher), work_dir_lock(work_dir, break_lock):
        for line in cfg.get('as_published') or ():
            if get_rank() == 0:
                print(line, flush=True)
        runner = WalkRunner(
            cfg,
            work_dir,
            launcher,
            resume or bool(cfg.get('resume')),
            accept_changes,
            start_from or cfg.get('start_from'),
            steps,
            overwrite,
        )
        runner.open()
        if get_rank() == 0:
            copy = config_text(with_names_allowed(runner.walk.as_given))
            write_text(work_dir / CONFIG_COPY, copy)
        runner.run()
        if get_rank() == 0 and report:
            _render(work_dir)


def print_step_config(cfg: Config, work_dir: Path, step: int) -> None:
    """Print the config of one step line by line, each line with the source of its value.

    Args:
        cfg: The user's config.
        work_dir: Work directory of the walk, which need not be there.
        step: The step.

    Raises:
        InputError: The walk has no such step, or :func:`prepare_walk` raises it.
    """
    walk = prepare_walk(cfg, work_dir)
    if not 0 <= step < walk.num_steps:
        raise InputError(
            f'--print-step-config {step}: this walk has the steps 0..{walk.num_steps - 1}'
        )
    for line in described(walk, step, training_config(walk, step, expected_inputs(walk, step))):
        print(line)


def _render(work_dir: Path) -> None:
    """Render the report of a walk; print a failure, as the walk itself has succeeded."""
    from mmseg_cil.visualization.report import render_report

    try:
        print(f'report: {render_report(work_dir)}')
    except Exception as error:
        print(
            f'note: the report cannot be rendered ({type(error).__name__}: {error}); the walk is '
            f'done, and mmseg-cil report {work_dir} renders it again'
        )


def walk_config(args: argparse.Namespace) -> Config:
    """Return the config that the arguments of ``mmseg-cil train`` ask for.

    Raises:
        InputError: Something the user gave is wrong.
    """
    pieces = {kind: getattr(args, kind) for kind in KINDS}
    cfg = None if args.config in (None, '-') else read_unsettled(args.config)
    composed = cfg is None and not pieces['model']
    cfg = settled_config(cfg, pieces, args.cfg_options, getattr(args, 'as_published', False))
    if getattr(args, 'checkpoint', None):
        config, checkpoint = args.checkpoint
        _begin_with(cfg, config, checkpoint, composed)
    return cfg


def _begin_with(cfg: Config, config: str, checkpoint: str, composed: bool) -> None:
    """Make a network that was trained elsewhere step 0 of a walk, in place.

    Args:
        cfg: Config of the walk.
        config: Config of the network.
        checkpoint: Checkpoint of the network.
        composed: Whether the model of ``cfg`` only follows from its protocol; it then gives way.

    Raises:
        InputError: The config has no protocol, and so describes no walk.
    """
    if not isinstance(cfg.get('protocol'), Mapping):
        raise InputError('--checkpoint: the config has no protocol, whose step 0 it would be')
    cfg.protocol.checkpoint = dict(config=config, checkpoint=checkpoint)
    if composed:
        cfg.pop('model', None)


def settled_config(
    cfg: Config | None,
    pieces: Mapping[str, str | None],
    options: Mapping[str, Any] | None = None,
    published: bool = False,
) -> Config:
    """Return the config of a walk.

    Args:
        cfg: Config as a file has it, which may be changed; None: compose the pieces alone.
        pieces: Names of pieces by kind, which replace parts of the config.
        options: Settings by dotted keys, which are applied last.
        published: Whether to turn the settings of the papers on.

    Raises:
        InputError: Something the user gave is wrong.
    """
    if cfg is None:
        cfg = compose(pieces)
    elif any(pieces.values()):
        cfg = compose(pieces, with_variables_allowed(cfg))
    else:
        cfg = settle(cfg)
    if published:
        cfg = as_published(cfg, pieces)
    return with_options(cfg, options)


def test(args: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """Evaluate finished steps again.

    Returns:
        The content of each step's ``metrics.json``, by the step's index.

    Raises:
        InputError: There is no walk, the step is not done, or the config or a
            checkpoint is not that of the walk.
    """
    quieten_warnings()
    work_dir = Path(args.work_dir)
    with process_group(args.launcher):
        _journal(work_dir)
        # A test that only reads and prints may run beside a walk.
        with (
            contextlib.nullcontext()
            if args.dry_run
            else work_dir_lock(
                work_dir,
                getattr(args, 'break_lock', False),
                'add --dry-run to print the scores only',
            )
        ):
            return _test(args, work_dir)


def _journal(work_dir: Path) -> Journal:
    journal = decided_by_main(lambda: Journal.load(work_dir, writable=False))
    if journal is None:
        raise InputError(
            f'{work_dir} holds no walk (no journal.json): give the work directory of a walk'
        )
    return journal


def _test(args: argparse.Namespace, work_dir: Path) -> dict[int, dict[str, Any]]:
    walk, journal = _opened(args, work_dir, writes=get_rank() == 0)
    steps = _steps_to_test(walk, journal, args.step, args.dry_run)
    decided_by_main(lambda: check_trained_steps(journal, steps))
    results = {}
    for step in steps:
        results[step] = evaluate_step(walk, journal, step, args.launcher, keep=not args.dry_run)
        if get_rank() == 0:
            print(summary_line(step, results[step]))
    if not args.dry_run:
        rescore_sub_steps(walk, journal, args.launcher)
        write_metrics(walk, journal)
    return results


def _opened(args: argparse.Namespace, work_dir: Path, writes: bool) -> tuple[Walk, Journal]:
    """Open a walk that is only to be evaluated, by the config that the arguments tell."""
    journal = _journal(work_dir)
    journal.writable = writes
    cfg = (
        load_config(args.config, args.cfg_options)
        if args.config
        else with_options(load_copy(work_dir / CONFIG_COPY), args.cfg_options)
    )
    walk = open_walk(cfg, work_dir, journal)
    recognise_counts(walk, journal)
    fingerprints = training_fingerprints(cfg, walk.protocol, walk.prints.train, get_world_size())
    check_same_walk(
        journal, {**fingerprints, EVALUATION: evaluation_of(walk)}, ('protocol', 'model')
    )
    return walk, journal


def probe(args: argparse.Namespace) -> dict[str, Any]:
    """Probe the finished steps of a walk, and write ``probe.json``.

    Nothing else is written, so the command may run beside the walk.

    Returns:
        The content of the file.

    Raises:
        InputError: There is no walk, :func:`~mmseg_cil.engine.probe.probe_walk` raises it, or an
            argument is wrong.
    """
    quieten_warnings()
    work_dir = Path(args.work_dir)
    settings = ProbeSettings(args.iters, args.lr, args.seed)
    with process_group('none'):
        walk, journal = _opened(args, work_dir, writes=False)
        content = probe_walk(walk, journal, settings)
    write_json(work_dir / PROBE, content)
    return content


def _steps_to_test(walk: Walk, journal: Journal, step: int | None, dry_run: bool) -> list[int]:
    done = [record['step'] for record in journal.content['steps'] if record['status'] == 'done']
    steps = done if step is None else [step]
    if not steps or not set(steps) <= set(done):
        raise InputError(
            f'steps {steps} of {walk.work_dir} are not all done; done: {done}. Evaluate one of '
            'these with --step, or finish the walk with mmseg-cil train and --resume'
        )
    outdated = outdated_steps(walk, journal)
    others = [reason for entry, reason in outdated.items() if entry not in steps]
    if others and not dry_run:
        raise InputError(
            f'metrics.json would mix two ways of evaluation: {"; ".join(others)}. '
            'Leave out --step to evaluate all steps, or add --dry-run to print only'
        )
    return steps


def summary_line(step: int, result: dict[str, Any]) -> str:
    """Return one line with a step's mean IoUs, in per cent."""
    values = ', '.join(
        f'{key} {100 * value:.2f}' if value is not None else f'{key} -'
        for key, value in result['mIoU'].items()
    )
    return f'step {step}: mIoU {values}'
