"""The walk over the steps of a protocol."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.runner import Runner

from mmseg_cil.contracts import network_of
from mmseg_cil.engine import predictions
from mmseg_cil.engine.asked_steps import check_order, parse_steps, read_ranges
from mmseg_cil.engine.config.first_step import is_trained_elsewhere
from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.step_config import StepInputs
from mmseg_cil.engine.config.step_visualizer import log_scores
from mmseg_cil.engine.evaluate import evaluate_step, outdated_steps, record_scores, write_metrics
from mmseg_cil.engine.exemplars.lists import exemplars_after, exemplars_before, num_exemplars
from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME
from mmseg_cil.engine.export.step import export_step
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.preflight.pretrained import check_pretrained
from mmseg_cil.engine.preflight.rehearsal import rehearse, wants_rehearsal
from mmseg_cil.engine.preflight.weights_fit import check_weights_fit
from mmseg_cil.engine.record.complete_imported import complete_taken_steps
from mmseg_cil.engine.record.completeness import (
    check_trained_steps,
    load_journal,
    needed_steps,
)
from mmseg_cil.engine.record.computing import computing
from mmseg_cil.engine.record.differences import (
    check_same_training,
    check_trained_classes,
    check_trained_network,
    only_adds_steps,
)
from mmseg_cil.engine.record.earlier import recognise_counts
from mmseg_cil.engine.record.fingerprint import (
    EVALUATION,
    evaluation_of,
    training_fingerprints,
)
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.opening import open_journal
from mmseg_cil.engine.record.overwriting import (
    check_no_other_run,
    check_overwritten,
    remove_walk,
)
from mmseg_cil.engine.record.resume_state import can_resume, step_identity
from mmseg_cil.engine.record.start_from import Import, plan_import
from mmseg_cil.engine.record.trained_elsewhere import TrainedElsewhere, plan_first_step
from mmseg_cil.engine.record.verify import check_checkpoint
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.runner.ema import keep_averaged_weights
from mmseg_cil.engine.step_configs import training_config
from mmseg_cil.engine.step_line import step_line
from mmseg_cil.engine.sub_steps.listing import replaced_teachers, sub_steps_of
from mmseg_cil.engine.sub_steps.run import rescore_sub_steps, run_sub_steps
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.models.teachers import step_teacher_name
from mmseg_cil.utils.hashed_file import remove_hashed
from mmseg_cil.utils.stopping import follow_signal


class WalkRunner:
    """A runner that walks all steps in this process, with one MMEngine Runner for each.

    Every rank of a distributed job has one; the process group stays up from the first step to
    the last, and only rank 0 writes. The constructor only stores its arguments; :meth:`prepare`
    reads and checks, :meth:`open` begins to write, and :meth:`run` calls both where they have not
    been called, and walks.

    Args:
        cfg: The user's config.
        work_dir: The folder of all files of the walk.
        launcher: MMEngine's launcher; the process group must be up already.
        resume: Whether to go on with the walk that the work directory holds.
        accept_changes: Whether to resume also where protocol, method or anything else
            that shapes the result differs from what the walk began with.
        start_from: ``WORK_DIR`` or ``WORK_DIR:K`` of another run, whose steps
            0..K (0 by default) are taken over instead of trained.
        steps: The steps to walk, as :func:`parse_steps` reads them. All by default.
        overwrite: Whether to begin anew where the work directory holds a walk, which is removed.
    """

    #: The walk, its steps to be walked, and its record, once they are known.
    walk: Walk
    steps: list[int]
    journal: Journal

    def __init__(
        self,
        cfg: Config,
        work_dir: str | Path,
        launcher: str = 'none',
        resume: bool = False,
        accept_changes: bool = False,
        start_from: str | None = None,
        steps: str | None = None,
        overwrite: bool = False,
    ) -> None:
        self.cfg = cfg
        self.work_dir = Path(work_dir)
        self.launcher = launcher
        self.resume = resume
        self.accept_changes = accept_changes
        self.start_from = start_from
        self.asked_steps = steps
        self.overwrite = overwrite
        self.is_main = get_rank() == 0
        self._begin: Callable[[], Journal] | None = None
        self._open = False

    def prepare(self) -> WalkRunner:
        """Read and check everything, and try a batch; the work directory stays as it is.

        Returns:
            This runner.

        Raises:
            InputError: Something the user gave is wrong.
        """
        former = self._find_former()
        # The journal names the other run: a kill before the copy must not lead to training step 0.
        start_from = self.start_from or (former.content.get('start_from') if former else None)
        elsewhere = is_trained_elsewhere(self.cfg)
        if elsewhere and start_from:
            raise InputError(
                'protocol.checkpoint and --start-from both say what step 0 is: give one of them'
            )
        # Later steps begin with the weights of the step before.
        begins = not (start_from or elsewhere) and (former is None or not former.is_trained(0))
        if begins:
            decided_by_main(lambda: check_pretrained(self.cfg))
        self.walk = prepare_walk(self.cfg, self.work_dir)
        if begins:
            decided_by_main(lambda: check_weights_fit(self.walk))
        self.steps = parse_steps(self.asked_steps, self.walk.num_steps)
        fingerprints = self._fingerprints()
        if former is not None:
            self._check_same(former, fingerprints)
        taken: Import | TrainedElsewhere | None = plan_first_step(self.walk, former)
        if start_from:
            taken = plan_import(
                start_from,
                self.walk,
                fingerprints,
                former,
                self.accept_changes,
                bool(self.start_from),
            )
        there = taken.steps if taken else ()
        check_order(self.steps, there, former)
        if former is not None:
            needed = needed_steps(self.walk, former, self.steps, outdated_steps(self.walk, former))
            decided_by_main(lambda: check_trained_steps(former, needed))
        if wants_rehearsal(self.cfg):
            rehearse(self.walk, self._to_train(former, there))
        self._begin = functools.partial(
            open_journal, self.walk, former, fingerprints, start_from, taken
        )
        return self

    def open(self) -> WalkRunner:
        """Begin to write the work directory, after :meth:`prepare` if it was not called yet.

        Returns:
            This runner.

        Raises:
            InputError: :meth:`prepare` raises it, or a file cannot be taken over.
        """
        if self._begin is None:
            self.prepare()
        assert self._begin is not None
        if not self._open:
            if self.overwrite:
                decided_by_main(lambda: remove_walk(self.work_dir))
            self.journal = decided_by_main(self._begin)
            self.journal.writable = self.is_main
            self._open = True
        return self

    def _find_former(self) -> Journal | None:
        """Return the journal of a walk that goes on, before a large dataset is indexed."""
        if self.asked_steps is not None:
            read_ranges(self.asked_steps)
        if self.overwrite:
            decided_by_main(lambda: check_overwritten(self.work_dir, self.resume, self.start_from))
            return None
        journal = decided_by_main(lambda: load_journal(self.work_dir))
        if journal is not None and not self.resume:
            raise InputError(
                f'{self.work_dir} already holds a walk: add --resume to go on with it, '
                '--overwrite to begin anew in its place, or give another --work-dir'
            )
        if journal is None and self.resume:
            decided_by_main(lambda: check_no_other_run(self.work_dir))
            if self.is_main:
                print(f'note: --resume: {self.work_dir} holds no walk yet, so a new one begins')
        return journal

    def _check_same(self, journal: Journal, fingerprints: dict[str, str]) -> None:
        recognise_counts(self.walk, journal)
        if not self.accept_changes and not only_adds_steps(self.walk, journal, fingerprints):
            check_same_training(self.walk, journal, fingerprints)
        check_trained_classes(self.walk, journal)
        if self.accept_changes:
            check_trained_network(self.walk, journal, fingerprints)

    def _fingerprints(self) -> dict[str, str]:
        walk = self.walk
        training = training_fingerprints(
            walk.as_given, walk.protocol, walk.prints.train, get_world_size()
        )
        return {**training, EVALUATION: evaluation_of(walk)}

    def _to_train(self, journal: Journal | None, taken: Sequence[int]) -> list[int]:
        return [
            step
            for step in self.steps
            if self.walk.trains(step)
            and step not in taken
            and not (journal and journal.is_trained(step))
        ]

    def run(self) -> None:
        """Walk the steps, and evaluate finished steps again where that is due.

        Raises:
            InputError: :meth:`open` raises it, or a file of a finished step is missing or was
                changed.
        """
        self.open()
        for step, reason in outdated_steps(self.walk, self.journal).items():
            if self.is_main:
                print(f'note: {reason}: evaluating it again')
            evaluate_step(self.walk, self.journal, step, self.launcher)
        rescore_sub_steps(self.walk, self.journal, self.launcher)
        if any(self.journal.is_done(step) for step in range(self.walk.num_steps)):
            # A kill may have come between the journal and the metrics.
            write_metrics(self.walk, self.journal)
        complete_taken_steps(self.walk, self.journal, self.launcher)
        for step in self.steps:
            follow_signal()
            if not self.journal.is_trained(step):
                self._train_step(step)
            finished = self.journal.is_done(step)
            if not finished:
                exemplars_after(self.walk, self.journal, step)
                evaluate_step(self.walk, self.journal, step, self.launcher)
                self._forget_state(step)
            self._run_sub_steps(step, 'after')
            metrics = write_metrics(self.walk, self.journal)
            if metrics and not finished:
                records = self.journal.content['steps']
                print(step_line(step, metrics, records, self.walk.iterations), flush=True)

    def _inputs(self, step: int) -> StepInputs:
        return StepInputs(
            self._previous(step),
            self._teacher(step),
            self.walk.train_images,
            teachers=self._teachers(step),
        )

    def _run_sub_steps(self, step: int, when: str) -> None:
        if not sub_steps_of(self.walk, step, when):
            return
        inputs, snapshot = self._inputs(step), None
        if when == 'after':
            # A sub-step after the step has the step's own data, and the results of sub-steps before
            # the step, which a step that was taken over from another method lacks.
            kept = (self.journal.step(step) or {}).get('sub_steps') or {}
            if any(
                sub_step.name not in kept for sub_step in sub_steps_of(self.walk, step, 'before')
            ):
                self._run_sub_steps(step, 'before')
            inputs = replace(inputs, exemplars=exemplars_before(self.walk, self.journal, step))
            snapshot = self._snapshot(step)
        run_sub_steps(self.walk, self.journal, step, when, inputs, snapshot, self.launcher)

    def _train_step(self, step: int) -> None:
        # Steps that were taken over may lack their sub-steps.
        for earlier in range(step):
            self._run_sub_steps(earlier, 'after')
        self._run_sub_steps(step, 'before')
        folder = step_folder(self.work_dir, step)
        identity = step_identity(
            step, len(self.walk.protocol.steps[step].seen), self.journal.content['fingerprints']
        )
        resume = decided_by_main(
            lambda: can_resume(folder, identity, self.journal.content.get('former'))
        )
        inputs = replace(
            self._inputs(step),
            resume=resume,
            exemplars=exemplars_before(self.walk, self.journal, step),
        )
        planned = [other for other in self.steps if not self.journal.is_done(other)]
        cfg = training_config(self.walk, step, inputs, planned)
        cfg.default_hooks.checkpoint.identity = identity
        with step_runner.step_runner(cfg, self.launcher) as runner:
            start = time.monotonic()
            if self.walk.trains(step):
                runner.train()
                keep_averaged_weights(runner)
            else:
                step_runner.initialise_untrained(runner)
            self._save_step(step, runner, time.monotonic() - start, num_exemplars(inputs.exemplars))
            exemplars_after(self.walk, self.journal, step)
            start = time.monotonic()
            result = step_runner.evaluate(runner, self.walk.trains(step))
            log_scores(runner.visualizer, step, result)
            predictions.predict_samples(network_of(runner), self.walk, step, self.is_main)
            record_scores(self.walk, self.journal, step, result, time.monotonic() - start)
        self._forget_state(step)

    def _forget_state(self, step: int) -> None:
        if self.is_main:
            remove_hashed(step_folder(self.work_dir, step) / RESUME_NAME)

    def _save_step(self, step: int, runner: Runner, seconds: float, replayed: int) -> None:
        walk = self.walk
        model: Any = network_of(runner)
        # The network that is saved, and evaluated afterwards, is plain.
        kept = model.make_plain()
        step_runner.require_finite_network(runner, f'step {step}')
        if walk.trains(step):
            step_runner.after_step(runner)
        hashes = decided_by_main(lambda: export_step(walk, step, model, kept))
        previous = step_folder(self.work_dir, step - 1) / CHECKPOINT_NAME
        self.journal.update_step(
            step,
            status='trained',
            trained=walk.trains(step),
            classes=len(walk.seen_names(step)),
            images=walk.train_images[step],
            training_images=walk.prints.train[step],
            replayed=replayed,
            iterations=walk.iterations[step],
            started_from=str(previous) if step else None,
            train_seconds=round(seconds, 1),
            computing=computing(),
            **hashes,
        )
        if get_world_size() > 1:
            barrier()

    def _previous(self, step: int) -> dict[str, Any] | None:
        return None if step == 0 else self._snapshot(step - 1)

    def _teacher(self, step: int) -> dict[str, Any] | None:
        """Return the snapshot of the last step that trained; no other has learnt anything."""
        for earlier in range(step - 1, -1, -1):
            record = self.journal.step(earlier)
            if record is not None and record.get('trained'):
                return self._snapshot(earlier)
        return None

    def _teachers(self, step: int) -> dict[str, dict[str, Any]]:
        """Return the snapshots of all earlier steps that trained, if the method asks for them."""
        if not find_method(self.walk.cfg, self.walk.protocol.name).reads_all_teachers:
            return {}
        earlier = [
            former for former in range(step) if (self.journal.step(former) or {}).get('trained')
        ]
        kept = replaced_teachers(self.walk, earlier)
        return {
            step_teacher_name(former): dict(
                kept[former], num_classes=len(self.walk.protocol.steps[former].seen)
            )
            if former in kept
            else self._snapshot(former)
            for former in earlier
        }

    def _snapshot(self, step: int) -> dict[str, Any]:
        return dict(
            checkpoint=str(check_checkpoint(self.journal, step)),
            num_classes=len(self.walk.protocol.steps[step].seen),
        )
