"""Walks the steps of a protocol."""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import mmengine
import mmseg
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, get_world_size

import mmseg_cil
from mmseg_cil.engine import samples, step_runner
from mmseg_cil.engine.fingerprint import changed, file_hash, walk_fingerprints
from mmseg_cil.engine.journal import Journal
from mmseg_cil.engine.plain_export import CHECKPOINT_NAME, export_checkpoint, export_config
from mmseg_cil.engine.start_from import import_steps
from mmseg_cil.engine.step_config import (
    StepInputs,
    derive_step_config,
    method_of,
    run_seed,
    step_folder,
)
from mmseg_cil.engine.walk import Walk, prepare_walk
from mmseg_cil.errors import InputError
from mmseg_cil.evaluation import walk_metrics
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.utils.atomic import write_json

STEP_METRICS = 'metrics.json'


class TaskScheduler:
    """Walks all steps in this process, one MMEngine Runner each.

    Every rank of a distributed job runs the same scheduler; the process group
    stays up from the first step to the last, and only rank 0 writes.

    Args:
        cfg: The user's config.
        work_dir: Where everything goes.
        launcher: MMEngine's launcher; the process group must be up already.
        resume: Go on with the walk that the work directory holds.
        accept_changes: Resume also where protocol, method or anything else
            that shapes the result differs from what the walk began with.
        start_from: ``WORK_DIR`` or ``WORK_DIR:K`` of another run, whose steps
            0..K (0 by default) are taken over instead of trained.
        steps: The steps to walk, as :func:`parse_steps` reads them. All by default.

    Raises:
        InputError: Something the user gave is wrong; nothing has been trained.
    """

    def __init__(self,
                 cfg: Config,
                 work_dir: str | Path,
                 launcher: str = 'none',
                 resume: bool = False,
                 accept_changes: bool = False,
                 start_from: str | None = None,
                 steps: str | None = None) -> None:
        self.launcher = launcher
        self.is_main = get_rank() == 0
        self.work_dir = Path(work_dir)
        # Refuse before the index of a large dataset is built.
        journal = Journal.load(self.work_dir, writable=self.is_main)
        if journal is not None and not resume:
            raise InputError(f'{work_dir} already holds a walk: add --resume to go on with it, or '
                             'give another --work-dir')
        self.walk: Walk = prepare_walk(cfg, work_dir)
        self.steps = parse_steps(steps, self.walk.num_steps)
        self.journal = self._open_journal(journal, accept_changes)
        if start_from:
            import_steps(start_from, self.walk, self.journal)
        if get_world_size() > 1:
            barrier()

    def _open_journal(self, journal: Journal | None, accept_changes: bool) -> Journal:
        walk = self.walk
        fingerprints = walk_fingerprints(walk.cfg, walk.protocol)
        if journal is None:
            self._forget_states()
            return Journal.create(self.work_dir, self._header(fingerprints), self.is_main)
        differing = changed(journal.content['fingerprints'], fingerprints)
        if differing and not accept_changes:
            raise InputError(
                f'this config differs from the one that {self.work_dir} was begun with, in: '
                f'{", ".join(differing)}. Results would mix two settings: use the former config, '
                'another --work-dir, or --accept-changes if you mean it')
        if differing:
            self._forget_states()
            journal.update_header(**self._header(fingerprints))
        return journal

    def _forget_states(self) -> None:
        # A state in training that another walk, or another config, left here.
        if self.is_main:
            for path in self.work_dir.glob(f'step_*/{RESUME_NAME}'):
                path.unlink()

    def _header(self, fingerprints: dict[str, str]) -> dict[str, Any]:
        walk = self.walk
        return {
            'protocol': walk.protocol.to_dict(),
            'method': method_of(walk.cfg, walk.protocol.name),
            'fingerprints': fingerprints,
            'seed': run_seed(walk.cfg),
            'world_size': get_world_size(),
            'images': {'train': list(walk.train_images), 'test': list(walk.test_images)},
            'iterations': list(walk.iterations),
            'command': sys.argv,
            'versions': {
                'mmseg_cil': mmseg_cil.__version__,
                'python': platform.python_version(),
                'torch': torch.__version__,
                'numpy': np.__version__,
                'mmengine': mmengine.__version__,
                'mmseg': mmseg.__version__,
            },
        }

    def run(self) -> None:
        """Walks the steps, skipping those that are done.

        Raises:
            InputError: A step needs one before it that is not done.
        """
        if any(self.journal.is_done(step) for step in range(self.walk.num_steps)):
            # A kill may have come between the journal and the metrics.
            self._write_metrics()
        for step in self.steps:
            if self.journal.is_done(step):
                continue
            if step and not self.journal.is_done(step - 1):
                raise InputError(f'step {step} starts from step {step - 1}, which is not done: '
                                 'include it in --steps, or take it over with --start-from')
            self._run_step(step)
            self._write_metrics()

    def _run_step(self, step: int) -> None:
        folder = step_folder(self.work_dir, step)
        record = self.journal.step(step)
        trained = record is not None and record['status'] == 'trained'
        resume = not trained and (folder / RESUME_NAME).is_file()
        inputs = StepInputs(self._previous(step), self._teacher(step), self.walk.train_images,
                            resume)
        cfg = derive_step_config(self.walk.cfg, self.walk.protocol, step, inputs, self.work_dir,
                                 get_world_size())
        with step_runner.step_runner(cfg, self.launcher) as runner:
            if trained:
                step_runner.load_weights(runner, str(folder / CHECKPOINT_NAME))
            else:
                start = time.monotonic()
                if self.walk.trains(step):
                    step_runner.train(runner)
                else:
                    step_runner.initialise_untrained(runner)
                self._save_step(step, step_runner.bare_model(runner), time.monotonic() - start)
            start = time.monotonic()
            result = step_runner.evaluate(runner, self.walk.trains(step) and not trained)
            samples.predict_samples(step_runner.bare_model(runner), self.walk, step, self.is_main)
            self._finish_step(step, result, time.monotonic() - start)

    def _save_step(self, step: int, model: torch.nn.Module, seconds: float) -> None:
        walk, folder = self.walk, step_folder(self.work_dir, step)
        classes = walk.seen_names(step)
        palette = [walk.palette[name] for name in classes]
        fields: dict[str, Any] = {}
        if self.is_main:
            export_config(walk.cfg, folder, classes, palette)
            path = export_checkpoint(model, folder, {
                'dataset_meta': {'classes': classes, 'palette': palette},
                'protocol': walk.protocol.name,
                'step': step,
                'mmseg_cil': mmseg_cil.__version__,
            })
            fields['checkpoint_sha256'] = file_hash(path)
        previous = self._previous(step)
        self.journal.update_step(
            step,
            status='trained',
            trained=walk.trains(step),
            classes=len(classes),
            images=walk.train_images[step],
            iterations=walk.iterations[step],
            started_from=previous['checkpoint'] if previous else None,
            train_seconds=round(seconds, 1),
            **fields)
        if get_world_size() > 1:
            barrier()

    def _finish_step(self, step: int, result: dict[str, Any], seconds: float) -> None:
        folder = step_folder(self.work_dir, step)
        if self.is_main:
            write_json(folder / STEP_METRICS, result)
            (folder / RESUME_NAME).unlink(missing_ok=True)
        self.journal.update_step(step, status='done', evaluate_seconds=round(seconds, 1))
        if get_world_size() > 1:
            barrier()

    def _write_metrics(self) -> None:
        if self.is_main:
            write_metrics(self.walk, self.journal)

    def _previous(self, step: int) -> dict[str, Any] | None:
        return None if step == 0 else self._snapshot(step - 1)

    def _teacher(self, step: int) -> dict[str, Any] | None:
        """The last step that trained: one that did not has learnt nothing to teach."""
        for earlier in range(step - 1, -1, -1):
            record = self.journal.step(earlier)
            if record is not None and record.get('trained'):
                return self._snapshot(earlier)
        return None

    def _snapshot(self, step: int) -> dict[str, Any]:
        return dict(
            checkpoint=str(step_folder(self.work_dir, step) / CHECKPOINT_NAME),
            num_classes=len(self.walk.protocol.steps[step].seen))


def parse_steps(text: str | None, num_steps: int) -> list[int]:
    """Reads ``--steps``: '3', '0-2', '0,2-4'; None means all.

    Raises:
        InputError: The text is not of this form or names a step that is not there.
    """
    if text is None:
        return list(range(num_steps))
    steps: set[int] = set()
    for part in str(text).split(','):
        first, _, last = part.strip().partition('-')
        if not first.isdigit() or (last and not last.isdigit()):
            raise InputError(f"--steps {text}: write '3', '0-2' or '0,2-4'")
        steps.update(range(int(first), int(last or first) + 1))
    if not steps or max(steps) >= num_steps:
        raise InputError(f'--steps {text}: this walk has the steps 0..{num_steps - 1}')
    return sorted(steps)


def write_metrics(walk: Walk, journal: Journal) -> None:
    """Assembles ``metrics.json`` and ``metrics.csv`` from the finished steps."""
    entries = []
    for record in journal.content['steps']:
        path = step_folder(walk.work_dir, record['step']) / STEP_METRICS
        if record['status'] == 'done':
            entries.append(json.loads(path.read_text(encoding='utf-8')))
    walk_metrics.write_metrics(
        walk.work_dir,
        walk_metrics.assemble_metrics(
            entries,
            protocol=walk.protocol.name,
            method=journal.content['method']['name'],
            setting=walk.protocol.setting,
            kind=walk.protocol.kind,
            palette=walk.palette))
