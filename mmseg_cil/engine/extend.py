"""The extensions of a trained network and of a finished walk, from config to walk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.commands import run_walk, settled_config
from mmseg_cil.engine.config.extension import NAME, Extension
from mmseg_cil.engine.config.further_steps import FurtherSteps
from mmseg_cil.engine.config.load import read_unsettled
from mmseg_cil.engine.config.new_data import ImagesAndMasks
from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.record.config_copy import NAME as COPY
from mmseg_cil.engine.record.journal import NAME as JOURNAL
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import write_text


def write_config(
    extension: Extension, work_dir: Path, resume: bool = False, overwrite: bool = False
) -> Config:
    """Write the config of an extension, and return the config as it is read from the file.

    Args:
        extension: The classes or the domain to learn.
        work_dir: Work directory of the walk; made where it is missing.
        resume: Whether a walk that the work directory holds goes on.
        overwrite: Whether such a walk is begun anew.

    Raises:
        InputError: Something that the extension names is wrong, or the work directory holds a walk
            of another extension.
    """
    text, path = extension.text(), work_dir / NAME
    if (work_dir / JOURNAL).exists() and not overwrite:
        if not resume:
            raise InputError(
                f'{work_dir} already holds a walk: add --resume to go on with it, --overwrite to '
                'begin anew in its place, or give another --work-dir'
            )
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            raise InputError(
                f'{work_dir} holds a walk of another extension than these options say ({path}): '
                f'go on with mmseg-cil train {path} --work-dir {work_dir} --resume'
            )
    work_dir.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return read_unsettled(path)


def extend_network(
    extension: Extension,
    work_dir: Path,
    resume: bool = False,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
    report: bool = True,
) -> None:
    """Write the config of an extension, and walk it.

    Args:
        extension: The classes or the domain to learn.
        work_dir: Work directory of the walk.
        resume: Whether a walk that the work directory holds goes on.
        overwrite: Whether such a walk is begun anew.
        options: Settings by dotted keys, which are applied last.
        report: Whether to render the report.

    Raises:
        InputError: Something given is wrong; nothing was trained.
    """
    cfg = settled_config(write_config(extension, work_dir, resume, overwrite), {}, options)
    run_walk(cfg, work_dir, resume=resume, overwrite=overwrite, report=report)


def extend_walk(
    further: FurtherSteps, options: Mapping[str, Any] | None = None, report: bool = True
) -> None:
    """Let a finished walk go on with further steps.

    Args:
        further: The further steps and their data.
        options: Settings by dotted keys, which are applied last.
        report: Whether to render the report.

    Raises:
        InputError: Something given is wrong; nothing was trained.
    """
    cfg = settled_config(further.config(), {}, options)
    try:
        run_walk(cfg, further.work_dir, resume=True, report=report)
    except InputError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        last = step_folder(further.work_dir, _last_step(further.work_dir)) / CHECKPOINT_NAME
        raise InputError(
            f'{error}. If data of finished steps are gone, the walk cannot go on, but its last '
            f'network can be extended: mmseg-cil extend {further.work_dir / COPY} {last} '
            '--work-dir ANOTHER_FOLDER and the options for the new data'
        ) from error


def _last_step(work_dir: Path) -> int:
    """Return the last step of a walk that is done."""
    journal = Journal.load(work_dir)
    records = [] if journal is None else journal.content['steps']
    return max((record['step'] for record in records if record['status'] == 'done'), default=0)


def new_images(
    data: str | None,
    images: Path | None,
    masks: Path | None,
    test_images: Path | None,
    test_masks: Path | None,
) -> tuple[ImagesAndMasks | str, ImagesAndMasks | None]:
    """Return the source of the new data, and the images to score on.

    Args:
        data: A config that names images and masks; None: the next two arguments name them.
        images: Folder of the images.
        masks: Folder of the masks.
        test_images: Folder of the images to score on, or None.
        test_masks: Folder of the masks of these images, or None.

    Raises:
        InputError: Too many or too few of the arguments are given.
    """
    if (test_images is None) != (test_masks is None):
        raise InputError('--test-images and --test-masks go together: give both, or none')
    test = None
    if test_images is not None and test_masks is not None:
        test = ImagesAndMasks(test_images, test_masks)
    if data is not None and images is None and masks is None:
        return data, test
    if data is not None or images is None or masks is None:
        raise InputError('give --images and --masks, or --data with a config that names both')
    return ImagesAndMasks(images, masks), test


def refuse_beside_folder(given: Mapping[str, object]) -> None:
    """Refuse options of the beginning of a walk where a walk goes on.

    Raises:
        InputError: Such an option is given.
    """
    there = [name for name, value in given.items() if value]
    if there:
        raise InputError(
            f'{there[0]} does not go with the folder of a walk, which goes on as it began: '
            'leave it out'
        )
