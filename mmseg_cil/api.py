"""The Python API, also for notebooks: run a walk, read its results, evaluate it again.

::

    import mmseg_cil

    result = mmseg_cil.walk(method='mib', protocol='voc_15-1', work_dir='work_dirs/mib')
    print(result)                       # mean IoU by step
    pandas.DataFrame(result.table())    # a row for each step and class
    result.checkpoints[-1], result.report

Wrong input raises :class:`~mmseg_cil.errors.InputError`; no function ends the process. Ctrl-C (or
the button of a notebook) saves the state and raises ``KeyboardInterrupt``; ``resume=True`` goes on.
Every function restores the process: random states, flags of PyTorch, environment, signal handlers
and the objects that MMEngine keeps by name.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mmseg_cil.engine import commands
from mmseg_cil.engine.config.compose import KINDS
from mmseg_cil.engine.config.extension import Extension
from mmseg_cil.engine.config.further_steps import FurtherSteps
from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.engine.config.new_data import NewData
from mmseg_cil.engine.extend import (
    extend_network,
    extend_walk,
    new_images,
    refuse_beside_folder,
)
from mmseg_cil.engine.preflight.clean_state import restored_state
from mmseg_cil.errors import InputError
from mmseg_cil.utils.quiet import quieten_warnings
from mmseg_cil.utils.stopping import ended_by_signals
from mmseg_cil.visualization.walk_result import WalkResult

__all__ = ['InputError', 'WalkResult', 'evaluate', 'extend', 'load_walk', 'walk']

#: The forms of a config: a file, ``mmseg::...``, or the content of a config.
ConfigLike: TypeAlias = str | Path | Config | Mapping[str, Any]


def walk(
    config: ConfigLike | None = None,
    work_dir: str | Path | None = None,
    *,
    method: str | None = None,
    protocol: str | None = None,
    dataset: str | None = None,
    model: str | None = None,
    schedule: str | None = None,
    options: Mapping[str, Any] | None = None,
    steps: str | Sequence[int] | None = None,
    start_from: str | Path | WalkResult | None = None,
    resume: bool = False,
    overwrite: bool = False,
    accept_changes: bool = False,
    as_published: bool = False,
    amp: bool = False,
    rehearsal: bool = True,
    report: bool = True,
    progress: bool = True,
) -> WalkResult:
    """Walk the steps of a protocol, as ``mmseg-cil train`` does, in this process.

    Args:
        config: A file, ``mmseg::...``, or the content of a config, which is not changed; None: the
            config is composed of the pieces that ``method``, ``protocol``, ``dataset``, ``model``
            and ``schedule`` name. Beside a config these names replace parts of it.
        work_dir: Folder for all files of the walk; always required.
        method: Name of the method, such as ``'mib'``; ``mmseg-cil methods`` lists the names.
        protocol: Name of the protocol, such as ``'voc_15-1'``.
        dataset: Name of a piece of ``configs/_base_/datasets``; None: the protocol's dataset.
        model: Name of a piece of ``configs/_base_/models``; None: the protocol's model.
        schedule: Name of a piece of ``configs/_base_/schedules``; None: the protocol's schedule.
        options: Settings by dotted keys, as for ``--cfg-options``; ``step_overrides`` may be
            a mapping of the steps that change.
        steps: The steps to walk: indices, or ``'0-2'``; None: all.
        start_from: Another walk (or ``WORK_DIR:K``) whose first steps are taken over.
        resume: Whether to go on with the walk in the work directory.
        overwrite: Whether to remove a walk in the work directory and begin anew.
        accept_changes: Whether to resume although the config has changed.
        as_published: Whether to use the settings of the papers.
        amp: Whether to train in mixed precision.
        rehearsal: Whether to try a batch of the first and the last step before training.
        report: Whether to render the report.
        progress: Whether the log is shown; log files are written anyway.

    Returns:
        The scores and files of all finished steps.

    Raises:
        InputError: An argument is wrong; nothing was trained.
        KeyboardInterrupt: The walk was interrupted; its state is saved.
    """
    if not work_dir:
        raise InputError('walk(...): work_dir is missing, such as work_dir="work_dirs/mib"')
    names = dict(model=model, dataset=dataset, protocol=protocol, method=method, schedule=schedule)
    source = start_from.work_dir if isinstance(start_from, WalkResult) else start_from
    with _left_as_it_was(progress):
        cfg = commands.settled_config(
            _content(config), {kind: names[kind] for kind in KINDS}, options, as_published
        )
        commands.set_ways_to_run(cfg, amp, rehearsal)
        commands.note_published(cfg)
        commands.run_walk(
            cfg,
            Path(work_dir),
            resume=resume,
            accept_changes=accept_changes,
            start_from=None if source is None else str(source),
            steps=_steps(steps),
            overwrite=overwrite,
            report=report,
        )
    return load_walk(work_dir)


def extend(
    config: str | Path,
    checkpoint: str | Path | None = None,
    work_dir: str | Path | None = None,
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    test_images: str | Path | None = None,
    test_masks: str | Path | None = None,
    data: str | Path | None = None,
    new_classes: Sequence[str] | Sequence[Sequence[str]] = (),
    domain: str = '',
    ids: Mapping[str, int | Sequence[int]] | None = None,
    class_map: Mapping[str, str] | None = None,
    void_ids: Sequence[int] = (),
    unlabelled: str = '',
    old_labels: str = '',
    name: str = '',
    classes: Sequence[str] = (),
    old_test: bool = False,
    method: str = '',
    iterations: int | None = None,
    lr: float | None = None,
    options: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: bool = True,
    progress: bool = True,
) -> WalkResult:
    """Teach a trained network new classes or a new domain, as ``mmseg-cil extend`` does.

    Args:
        config: The config that the network was trained with, or the folder of a finished walk,
            which then goes on (without ``checkpoint``, ``work_dir``, ``classes``, ``method``,
            ``old_test``).
        checkpoint: The weights of the network.
        work_dir: Folder for all files of the walk; the walk's config is ``extension.py`` in it.
        images: Folder of the new images.
        masks: Folder of the masks of ``images``.
        test_images: Folder of the images to score on; None: the new images.
        test_masks: Folder of the masks of ``test_images``.
        data: In place of the folders, a config with ``train_dataloader`` and ``test_dataloader``.
        new_classes: Classes of one step, or a list of them for each step.
        domain: Name of the new images, where no class is new.
        ids: Id in the masks of each class, or several; None: 1, 2, ... in order.
        class_map: With ``data``: the walk's name of a class that the data call otherwise.
        void_ids: Ids, besides 255, of pixels of no class.
        unlabelled: ``'background'``, ``'void'`` or ``'old'``: the meaning of pixels of id 0, where
            0 is no class.
        old_labels: ``'hidden'`` or ``'used'``: the treatment of labels of classes that the network
            knows.
        name: Name of the new data in the report.
        classes: The network's classes, where neither file tells them.
        old_test: Whether to score also on the test images of the network's own config.
        method: Name of the method, such as ``'plop'``; empty: MiB.
        iterations: Iterations of each step; None: the config's number.
        lr: Learning rate of each step; None: the config's rate.
        options: Settings by dotted keys, which come last.
        resume: Whether to go on with the walk in the work directory.
        overwrite: Whether to remove a walk in the work directory and begin anew.
        report: Whether to render the report.
        progress: Whether the log is shown.

    Raises:
        InputError: An argument is wrong; nothing was trained.
        KeyboardInterrupt: The walk was interrupted; its state is saved.
    """
    steps = _class_steps(new_classes)
    paths = [None if p is None else Path(p) for p in (images, masks, test_images, test_masks)]
    train, test = new_images(None if data is None else str(data), *paths)
    given = _id_lists(ids)
    new = NewData(train, test, name, given, void_ids, class_map or {}, unlabelled, old_labels)
    with _left_as_it_was(progress):
        if Path(config).is_dir():
            begins: dict[str, object] = dict(checkpoint=checkpoint, work_dir=work_dir)
            begins.update(classes=classes, method=method, old_test=old_test, overwrite=overwrite)
            refuse_beside_folder(begins)
            work_dir = Path(config)
            extend_walk(FurtherSteps(work_dir, steps, new, domain, iterations, lr), options, report)
            return load_walk(work_dir)
        if checkpoint is None or work_dir is None:
            raise InputError(
                f'extend(...): {config} is no folder of a walk: give checkpoint and work_dir too'
            )
        network = (str(config), str(checkpoint), steps, new, domain, classes, old_test)
        extension = Extension(*network, method or 'mib', iterations, lr)
        extend_network(extension, Path(work_dir), resume, overwrite, options, report)
    return load_walk(work_dir)


def _class_steps(new_classes: Sequence[str] | Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the new classes of each step.

    Raises:
        InputError: Names and lists of names are mixed.
    """
    names = [each for each in new_classes if isinstance(each, str)]
    if names and len(names) != len(new_classes):
        raise InputError(f'new_classes must be names, or a list of names a step: {new_classes!r}')
    return [names] if names else [list(step) for step in new_classes]


def _id_lists(ids: Mapping[str, int | Sequence[int]] | None) -> dict[str, list[int]]:
    return {
        label: [value] if isinstance(value, int) else list(value)
        for label, value in (ids or {}).items()
    }


def load_walk(work_dir: str | Path) -> WalkResult:
    """Return the walk in a work directory, finished or not.

    Args:
        work_dir: Work directory of the walk.

    Raises:
        InputError: The work directory has no evaluated step, or a file in it is damaged.
    """
    return WalkResult.read(work_dir)


def evaluate(
    walk: WalkResult | str | Path,
    *,
    step: int | None = None,
    options: Mapping[str, Any] | None = None,
    keep: bool = True,
    progress: bool = True,
) -> WalkResult:
    """Evaluate the finished steps of a walk again from their checkpoints.

    Args:
        walk: The walk, or its work directory.
        step: The step to evaluate; None: all finished steps.
        options: Settings of the config by dotted keys, such as another ``data_root``.
        keep: Whether the new scores replace the former ones in the files. If not, the new scores
            are in the result alone, and the result has the evaluated steps alone.
        progress: Whether the log is shown.

    Returns:
        The walk with the new scores.

    Raises:
        InputError: There is no walk, or config, data or checkpoints are not those of the walk.
    """
    work_dir = walk.work_dir if isinstance(walk, WalkResult) else Path(walk)
    asked = argparse.Namespace(
        work_dir=str(work_dir),
        step=step,
        config=None,
        dry_run=not keep,
        cfg_options=dict(options or {}),
        launcher='none',
    )
    with _left_as_it_was(progress):
        entries = commands.test(asked)
    return load_walk(work_dir) if keep else load_walk(work_dir).with_entries(entries.values())


def _content(config: ConfigLike | None) -> Config | None:
    """Return a config that this walk may change, with its ``custom_imports`` imported."""
    if config is None:
        return None
    if isinstance(config, (str, Path)):
        return read_unsettled(config)
    if not isinstance(config, Mapping | Config):
        raise InputError(f'a config is a path, a Config or a mapping, not {config!r}')
    if isinstance(config, Config):
        cfg = copy.deepcopy(config)
    else:
        cfg = Config(copy.deepcopy(dict(config)))
    # MMEngine imports them only when it reads a file.
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    return cfg


def _steps(steps: str | Sequence[int] | None) -> str | None:
    if steps is None or isinstance(steps, str):
        return steps
    return ','.join(map(str, steps))


@contextlib.contextmanager
def _left_as_it_was(progress: bool) -> Iterator[None]:
    """Restore the process after a block, in which a signal ends training with its state saved."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        stack.enter_context(restored_state())
        if not progress:
            output = io.StringIO()
            stack.enter_context(contextlib.redirect_stdout(output))
            stack.enter_context(contextlib.redirect_stderr(output))
        quieten_warnings()
        yield
