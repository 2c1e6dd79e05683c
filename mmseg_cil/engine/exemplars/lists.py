"""The lists of exemplars of a walk: the list that a step replays, and the list that it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmengine.logging import print_log

from mmseg_cil.engine.config.method import memory_settings
from mmseg_cil.engine.exemplars.choose import choose_exemplars
from mmseg_cil.engine.paths import run_seed, step_folder
from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.verify import check_checkpoint
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import FILE_NAME, ExemplarMemory, MemorySettings


def exemplars_before(walk: Walk, journal: Journal, step: int) -> str | None:
    """Return the path of the list of exemplars that a step replays; None where there is none.

    Raises:
        InputError: See :func:`exemplars_after`.
    """
    earlier = [earlier for earlier in range(step) if (journal.step(earlier) or {}).get('trained')]
    path = exemplars_after(walk, journal, earlier[-1]) if earlier else None
    return None if path is None else str(path)


def exemplars_after(walk: Walk, journal: Journal, step: int) -> Path | None:
    """Return the path of the list of exemplars that a step leaves; make a list that is missing.

    The list depends only on the step's checkpoint, its images and the list before.
    A list that is missing (after a kill, or in a step taken over from a run without
    memory) is therefore the same when it is made later. (On GPUs this holds as far as
    the features are the same, whose last digits can decide between near ties.) A list
    that other settings chose (accepted changes, steps taken over) is replaced.

    Every process must call this function.

    Returns:
        The path; None for a method without memory, and for a step that was not trained.

    Raises:
        InputError: The list is damaged, was changed or belongs to another protocol, or
            the step's checkpoint is missing or was changed.
    """
    settings = memory_settings(walk.cfg, walk.protocol.name)
    if settings is None or not (journal.step(step) or {}).get('trained'):
        return None
    path = step_folder(walk.work_dir, step) / FILE_NAME
    if not decided_by_main(lambda: _is_usable(path, walk, journal, step, settings)):
        check_checkpoint(journal, step)
        before = exemplars_before(walk, journal, step)
        former = (
            None if before is None else decided_by_main(lambda: ExemplarMemory.load(Path(before)))
        )
        memory = choose_exemplars(walk, step, settings, former)
        decided_by_main(lambda: memory.save(path))
        counts = ', '.join(f'{group} {len(names)}' for group, names in memory.lists.items())
        print_log(f'step {step}: {len(memory.names)} exemplars kept ({counts})', logger='current')
    record = decided_by_main(lambda: dict(kept=num_exemplars(path), sha256=file_hash(path)))
    if (journal.step(step) or {}).get('exemplars') != record:
        journal.update_step(step, exemplars=record)
    return path


def num_exemplars(path: str | Path | None) -> int:
    """Return the number of images in a list of exemplars; 0 without a list."""
    return 0 if path is None else len(ExemplarMemory.load(Path(path)).names)


def _is_usable(
    path: Path, walk: Walk, journal: Journal, step: int, settings: MemorySettings
) -> bool:
    """Return whether a list exists and was chosen as this walk would choose it."""
    if not path.is_file():
        return False
    record = journal.step(step) or {}
    memory = ExemplarMemory.load(path)
    expected = (record.get('exemplars') or {}).get('sha256')
    if expected not in (None, file_hash(path)):
        raise InputError(
            f'{path} is not the file that {journal.path} records (SHA-256 differs): '
            'it was changed or damaged; put the former file back, or delete it, and '
            "the walk chooses exemplars anew from that step's checkpoint"
        )
    same_protocol = memory.is_of(walk.protocol)
    former = (journal.content.get('former') or {}).get('protocol') or ()
    if not same_protocol and memory.protocol in former:
        # The list was written before further steps were added, under the protocol of that time.
        replace(memory, protocol=walk.protocol.beginning_fingerprint(memory.step)).save(path)
        same_protocol = True
    if not same_protocol and not record.get('taken_from'):
        raise InputError(
            f'the exemplars in {path} were chosen in a walk of another protocol '
            f'than {walk.protocol.name}: give another --work-dir, or delete the file'
        )
    return same_protocol and memory.choice == settings.choice(run_seed(walk.cfg))
