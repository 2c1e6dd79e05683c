"""The folders of a walk, and the seed of a run."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config


def step_folder(work_dir: str | Path, step: int) -> Path:
    """Return the folder of a step, ``WORK_DIR/step_XX``."""
    return Path(work_dir) / f'step_{step:02d}'


def run_seed(cfg: Config) -> int:
    """Return the run's seed: ``randomness.seed``, or 0 where it is not given."""
    seed = (cfg.get('randomness') or {}).get('seed')
    return 0 if seed is None else int(seed)
