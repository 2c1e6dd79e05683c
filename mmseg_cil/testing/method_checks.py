"""Checks, on tiny walks, that a method behaves like every method of this package."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from torch import Tensor

from mmseg_cil.engine.config.mixed_precision import use_mixed_precision
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.loss_record import mean_losses
from mmseg_cil.testing.odd_batches import BATCHES
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import make_data, tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, at, keep_own_networks, killed, logged

#: Allowed relative difference between two processes and one. With the package's methods the
#: difference is 1e-6, and up to 6e-4 where a mean is over labelled cells, of which the processes
#: have different numbers.
LIKE_ONE = 1e-3


def check_method(
    method: str | Mapping[str, Any],
    work_dir: str | Path,
    imports: Sequence[str] = (),
    checks: Sequence[str] | None = None,
    **changes: object,
) -> None:
    """Check a method on walks of seconds, and raise one error for all failed checks.

    Args:
        method: ``method`` of a config, or the name of a piece.
        work_dir: An empty folder.
        imports: Modules that register the method's parts.
        checks: Keys of :data:`CHECKS`, in order; all by default.
        **changes: Changes of the tiny config, by dotted keys.

    Raises:
        AssertionError: A check failed; the message has a line with the error of each such check.
    """
    import_modules_from_strings(list(imports))
    folder = Path(work_dir)
    data = make_data(folder / 'data')
    failures = []
    first: BaseException | None = None
    for name in checks or CHECKS:
        cfg = tiny_config(data, method, **changes)
        if imports:
            cfg.custom_imports = dict(imports=list(imports))
        try:
            CHECKS[name](cfg, folder / name)
        except Exception as error:
            first = first or error
            failures.append(f'{name}: {type(error).__name__}: {error}')
    if failures:
        raise AssertionError('\n'.join(failures)) from first


def resumes(cfg: Config, folder: Path) -> None:
    """Check that a walk killed in step 1 ends with the weights and scores of an unbroken walk."""
    WalkRunner(cfg, folder / 'whole', steps='0').run()
    shutil.copytree(folder / 'whole', folder / 'broken')
    WalkRunner(cfg, folder / 'whole', resume=True).run()
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, folder / 'broken', resume=True).run()
    WalkRunner(cfg, folder / 'broken', resume=True).run()
    assert_same_weights(folder / 'whole', folder / 'broken', 1, 2)
    scores = [(folder / name / 'metrics.json').read_text() for name in ('whole', 'broken')]
    assert scores[0] == scores[1], 'the scores of the resumed walk differ'
    _finite(folder / 'whole', 0, 1, 2)


def replays(cfg: Config, folder: Path) -> None:
    """Check that the method learns with exemplars."""
    cfg.method.memory = dict(budget=4, ratio=0.5)
    WalkRunner(cfg, folder, steps='0-1').run()
    record = json.loads((folder / 'journal.json').read_text())['steps'][1]
    assert record['replayed'] == 4, f'{record["replayed"]} exemplars were replayed, not 4'
    _finite(folder, 0, 1)


def survives_empty_step(cfg: Config, folder: Path) -> None:
    """Check that a step without images is recorded as untrained, and that the next step trains."""
    cfg.skip_empty_steps = True
    cfg.train_dataloader.dataset.ann_file = _without_blue(cfg)
    WalkRunner(cfg, folder / 'walk').run()
    steps = json.loads((folder / 'walk/journal.json').read_text())['steps']
    assert [step['trained'] for step in steps] == [True, False, True]
    _finite(folder / 'walk', 0, 2)


def mixes_precision(cfg: Config, folder: Path) -> None:
    """Check that the method's losses are finite in bfloat16."""
    use_mixed_precision(cfg, accelerator=False)
    WalkRunner(cfg, folder, steps='0-1').run()
    _finite(folder, 0, 1)


def survives_odd_batches(cfg: Config, folder: Path) -> None:
    """Check that every odd batch leaves losses and weights finite.

    The batches are those of :data:`~mmseg_cil.testing.odd_batches.BATCHES`: without a new class,
    without background, wholly void, of a single image, and others.
    """
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='OddBatchesHook')]
    cfg.step_overrides.later.max_iters = len(BATCHES)
    WalkRunner(cfg, folder, steps='0-1').run()
    _finite(folder, 0, 1)


def trains_in_two_processes(cfg: Config, folder: Path) -> None:
    """Check that two processes end with equal networks, and learn as a single process does.

    Batch norms and dropout, for which half a batch is another batch, are switched off
    (:class:`~mmseg_cil.testing.loss_record.SharesOfABatchHook`). The mean of both processes' losses
    at every iteration, and the weights, are compared with those of a single process.
    """
    imports = [*cfg.get('custom_imports', {}).get('imports', ()), 'mmseg_cil.testing.loss_record']
    cfg.custom_imports = dict(imports=imports)
    cfg.custom_hooks = [
        *(cfg.get('custom_hooks') or []),
        dict(type='LossRecordHook'),
        dict(type='SharesOfABatchHook'),
    ]
    folder.mkdir(parents=True)
    WalkRunner(cfg, folder / 'one', steps='0-1').run()
    in_two_processes(_walk, cfg.to_dict(), folder, log=folder / 'log')
    for step in (0, 1):
        first, second = (torch.load(folder / f'{step}_{rank}.pth') for rank in range(2))
        for key, value in first.items():
            assert torch.equal(value, second[key]), f'step {step}: {key} differs between processes'
        alone = mean_losses(folder / 'one', step, processes=1)
        check_losses(alone, mean_losses(folder / 'two', step, processes=2), step)
        check_weights(weights(folder / 'one', step), weights(folder / 'two', step), step)


def check_losses(alone: Sequence[float], two: Sequence[float], step: int) -> None:
    """Compare the losses of a step's iterations in one process with the means of two processes."""
    for iteration, (single, both) in enumerate(zip(alone, two, strict=True)):
        assert math.isclose(single, both, rel_tol=LIKE_ONE), (
            f'step {step}, iteration {iteration}: the loss is {both:.6g} in two processes, '
            f'{single:.6g} in one: a mean over something that the processes do not have equal '
            'shares of, or numbers drawn by each for itself'
        )


def check_weights(alone: Mapping[str, Tensor], two: Mapping[str, Tensor], step: int) -> None:
    """Compare the weights at the end of a step in one process and in two."""
    for key, value in alone.items():
        difference = float((two[key].double() - value.double()).norm())
        scale = max(float(value.double().norm()), 1.0)
        assert difference <= LIKE_ONE * scale, (
            f'step {step}: {key} is another after training in two processes than in one, by '
            f'{difference:.3g}'
        )


def _walk(content: Mapping[str, Any], folder: Path) -> None:
    keep_own_networks(folder)
    # MMEngine imports the modules only for a config that is read from a file.
    import_modules_from_strings(content['custom_imports']['imports'])
    WalkRunner(Config(dict(content)), folder / 'two', 'pytorch', steps='0-1').run()


def _without_blue(cfg: Config) -> str:
    """Write a list of the training images that do not show blue, class 3."""
    root = Path(cfg.train_dataloader.dataset.data_root)
    names = [f'train_{i:03d}' for i in range(16) if i % 4 != 2 and i // 2 % 4 != 2]
    (root / 'lists/no_blue.txt').write_text('\n'.join(names) + '\n')
    return 'lists/no_blue.txt'


def _finite(work_dir: Path, *steps: int) -> None:
    for step in steps:
        for line in logged(work_dir, step):
            assert math.isfinite(line['loss']), f'step {step}: the loss is {line["loss"]}'


#: All checks, by name.
CHECKS: dict[str, Callable[[Config, Path], None]] = {
    'resume': resumes,
    'processes': trains_in_two_processes,
    'replay': replays,
    'empty_step': survives_empty_step,
    'odd_batches': survives_odd_batches,
    'mixed_precision': mixes_precision,
}
