"""Whether a method does what every method of this package does, checked on tiny walks."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.mixed_precision import use_mixed_precision
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import make_data, tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, keep_own_networks, killed, logged


def check_method(
    method: str | Mapping[str, Any],
    work_dir: str | Path,
    imports: Sequence[str] = (),
    checks: Sequence[str] | None = None,
    **changes: object,
) -> None:
    """Check a method on walks of seconds; raise all that it fails in.

    Args:
        method: ``method`` of a config, or the name of a piece.
        work_dir: An empty folder.
        imports: Modules that register its parts.
        checks: Of :data:`CHECKS`, in order; all by default.
        **changes: Of the tiny config, by dotted keys.

    Raises:
        AssertionError: A line for each check that fails, with what was wrong.
    """
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
    """A walk that is killed in step 1 ends with the weights and scores of an unbroken one."""
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
    """It learns beside exemplars."""
    cfg.method.memory = dict(budget=4, ratio=0.5)
    WalkRunner(cfg, folder, steps='0-1').run()
    record = json.loads((folder / 'journal.json').read_text())['steps'][1]
    assert record['replayed'] == 4, f'{record["replayed"]} exemplars were replayed, not 4'
    _finite(folder, 0, 1)


def survives_empty_step(cfg: Config, folder: Path) -> None:
    """A step without images is recorded untrained, and the next one trains."""
    cfg.skip_empty_steps = True
    cfg.train_dataloader.dataset.ann_file = _without_blue(cfg)
    WalkRunner(cfg, folder / 'walk').run()
    steps = json.loads((folder / 'walk/journal.json').read_text())['steps']
    assert [one['trained'] for one in steps] == [True, False, True]
    _finite(folder / 'walk', 0, 2)


def mixes_precision(cfg: Config, folder: Path) -> None:
    """Its losses are finite in bfloat16."""
    use_mixed_precision(cfg, accelerator=False)
    WalkRunner(cfg, folder, steps='0-1').run()
    _finite(folder, 0, 1)


def trains_in_two_processes(cfg: Config, folder: Path) -> None:
    """Two processes end with one network; what a norm counts in its own batches may differ."""
    import torch

    folder.mkdir(parents=True)
    in_two_processes(_walk, cfg.to_dict(), folder, log=folder / 'log')
    for step in (0, 1):
        one, other = (torch.load(folder / f'{step}_{rank}.pth') for rank in range(2))
        for key, value in one.items():
            assert 'running' in key or torch.equal(value, other[key]), f'step {step}: {key} differs'


def _walk(content: Mapping[str, Any], folder: Path) -> None:
    keep_own_networks(folder)
    WalkRunner(Config(dict(content)), folder / 'walk', 'pytorch', steps='0-1').run()


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
    'mixed_precision': mixes_precision,
}
