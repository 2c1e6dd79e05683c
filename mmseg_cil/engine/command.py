"""What ``tools/train.py`` and ``tools/test.py`` do, free of argument parsing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank, get_world_size

from mmseg_cil.engine import step_runner
from mmseg_cil.engine.distributed import decided_by_main, process_group
from mmseg_cil.engine.journal import Journal
from mmseg_cil.engine.plain_export import CHECKPOINT_NAME
from mmseg_cil.engine.scheduler import STEP_METRICS, TaskScheduler, write_metrics
from mmseg_cil.engine.step_config import StepInputs, derive_step_config, step_folder
from mmseg_cil.engine.walk import load_config, prepare_walk
from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import write_json, write_text

CONFIG_COPY = 'walk_config.py'


def train(args: argparse.Namespace) -> None:
    """Walks a schedule and renders its report.

    Raises:
        InputError: Something the user gave is wrong.
    """
    cfg = load_config(args.config, args.cfg_options)
    default_dir = cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    work_dir = Path(args.work_dir or default_dir)
    with process_group(args.launcher):
        scheduler = TaskScheduler(cfg, work_dir, args.launcher, args.resume, args.accept_changes,
                                  args.start_from or cfg.get('start_from'), args.steps)
        if get_rank() == 0:
            write_text(work_dir / CONFIG_COPY, cfg.pretty_text)
        scheduler.run()
        if get_rank() == 0 and not args.no_report:
            from mmseg_cil.visualization.report import render_report

            print(f'report: {render_report(work_dir)}')


def test(args: argparse.Namespace) -> None:
    """Evaluates finished steps again.

    Raises:
        InputError: There is no walk, or the step is not done.
    """
    with process_group(args.launcher):
        _test(args, Path(args.work_dir))


def _test(args: argparse.Namespace, work_dir: Path) -> None:
    journal = decided_by_main(lambda: Journal.load(work_dir, writable=False))
    if journal is None:
        raise InputError(f'{work_dir} holds no walk (no journal.json)')
    cfg = load_config(args.config or work_dir / CONFIG_COPY, args.cfg_options)
    walk = prepare_walk(cfg, work_dir)
    done = [record['step'] for record in journal.content['steps'] if record['status'] == 'done']
    steps = done if args.step is None else [args.step]
    if not steps or not set(steps) <= set(done):
        raise InputError(f'steps {steps} of {work_dir} are not all done; done: {done}')
    for step in steps:
        # No teacher and no former step: nothing but the step's own weights is needed.
        inputs = StepInputs(None, None, walk.train_images)
        config = derive_step_config(cfg, walk.protocol, step, inputs, work_dir, get_world_size())
        _without_training(config)
        with step_runner.step_runner(config, args.launcher) as runner:
            step_runner.load_weights(runner, str(step_folder(work_dir, step) / CHECKPOINT_NAME))
            result = step_runner.evaluate(runner, has_run=False)
        if get_rank() == 0:
            print(summary_line(step, result))
            if not args.dry_run:
                write_json(step_folder(work_dir, step) / STEP_METRICS, result)
    if get_rank() == 0 and not args.dry_run:
        write_metrics(walk, journal)


def _without_training(cfg: Any) -> None:
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None


def summary_line(step: int, result: dict[str, Any]) -> str:
    """One line of a step's mean IoUs, in per cent."""
    values = ', '.join(f'{key} {100 * value:.2f}' if value is not None else f'{key} -'
                       for key, value in result['mIoU'].items())
    return f'step {step}: mIoU {values}'
