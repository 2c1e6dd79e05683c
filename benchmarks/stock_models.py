"""Walks every kind of network among MMSegmentation's stock configs, and counts what works.

    python benchmarks/stock_models.py [--only PATTERN] [--methods mib plop vdfd]
                                      [--results FILE] [--files] [--stand-in-ops]

The stock configs are grouped by segmentor, backbone, neck, decode heads and auxiliary heads. One
config of each group is made small (few channels, crops of 64 x 64, six images, no pre-trained
weights) and walked, whole, over two steps of two iterations with each method, and the steps are
read back by MMSegmentation alone. With ``--files`` each file of a group is, besides, checked
as a walk is checked before training. The table counts over all files. Results are kept in a
file, and what is in it is not run again.

``--stand-in-ops`` puts plain PyTorch in place of operators that MMCV may have been installed
without (CCNet, PSANet, PointRend need them); configs that import mmpretrain or mmdet need those.

Exit status: 0 nothing fails, 1 something does.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

OUTCOMES = ('works', 'refused', 'fails')
Results = dict[str, dict[str, Any]]


def groups_of(files: list[str], known: dict[str, str]) -> dict[str, list[str]]:
    """Return the files by the kind of their network, the most common kind first.

    Args:
        files: Stock configs.
        known: Kinds that are known already, by file; the others are added.
    """
    from stock import catalogue

    found: dict[str, list[str]] = {}
    for file in files:
        if file not in known:
            try:
                known[file] = catalogue.kind_of(catalogue.read(file).model.to_dict())
            except Exception as error:
                known[file] = catalogue.kind_of_unreadable(file, str(error))
        found.setdefault(known[file], []).append(file)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def run_all(
    groups: dict[str, list[str]],
    methods: list[str],
    results: Results,
    path: Path,
    each_file: bool,
    timeout: float,
) -> None:
    """Run the walks whose results are missing.

    The walk with the first method tries a batch before training, as walks do by default;
    those with the others do not, which saves a third of the time.

    Args:
        groups: Files by kind, from :func:`groups_of`.
        methods: Names of methods.
        results: By kind and method, or by file; those of this run are added.
        path: File of results.
        each_file: Check every file of a group too.
        timeout: Seconds for one walk.
    """
    from stock.walks import check_all, forked, walk

    # Rare kinds first: they tell most.
    for kind, files in reversed(groups.items()):
        jobs: list[tuple[str, Any, tuple[Any, ...]]] = [
            (f'{kind} | {method}', walk, (files[0], method, method == methods[0]))
            for method in methods
        ]
        if each_file:
            jobs.append((f'{kind} | files', check_all, (files, methods[0])))
        for key, run, arguments in jobs:
            if key in results:
                continue
            limit = timeout * (len(files) if run is check_all else 1)
            results[key] = {**forked(run, *arguments, timeout=limit), 'of': arguments[0]}
            save(path, results)
            done = results[key]
            print(
                f'{done["outcome"]:8} {done["seconds"]:6.1f} s  {key}'
                + (f': {done["reason"]}' if done['reason'] else ''),
                flush=True,
            )


def save(path: Path, content: Any) -> None:
    """Write a JSON file in one piece."""
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def worst(outcomes: list[str]) -> str:
    """Return the worst of several outcomes."""
    return max(outcomes, key=OUTCOMES.index)


def table(groups: dict[str, list[str]], methods: list[str], results: Results) -> tuple[str, int]:
    """Return the table of kinds and files, and how many files fail.

    Args:
        groups: Files by kind, from :func:`groups_of`.
        methods: Names of methods.
        results: Outcomes, from :func:`run_all`.
    """
    lines, counts = [], collections.Counter[str]()
    lines.append(f'{"files":>5}  {"  ".join(f"{method:8}" for method in methods)}  kind')
    for kind, files in groups.items():
        of_kind = [results[f'{kind} | {method}']['outcome'] for method in methods]
        lines.append(f'{len(files):5}  {"  ".join(f"{outcome:8}" for outcome in of_kind)}  {kind}')
        for file in files:
            own = results.get(f'{kind} | files', {}).get('files', {}).get(file)
            counts[worst([*of_kind, *([own['outcome']] if own else [])])] += 1
    total = sum(counts.values())
    lines += [
        f'{counts[outcome]:5} of {total} ({100 * counts[outcome] / max(1, total):.1f} %): {outcome}'
        for outcome in OUTCOMES
    ]
    return '\n'.join(lines), counts['fails']


def main() -> int:
    """Run the benchmark; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='*', help='pattern of files, such as "*ocrnet*"')
    parser.add_argument('--methods', nargs='+', default=['mib', 'plop', 'vdfd'])
    parser.add_argument('--results', type=Path, default=Path('stock_models.json'))
    parser.add_argument('--files', action='store_true', help='check every file too')
    parser.add_argument('--stand-in-ops', action='store_true')
    parser.add_argument('--timeout', type=float, default=900.0)
    args = parser.parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    warnings.filterwarnings('ignore')
    if args.stand_in_ops:
        from stock.ops import stand_in

        print('operators: plain PyTorch' if stand_in() else 'operators: compiled')
    import torch
    from stock.catalogue import stock_files

    torch.set_num_threads(1)
    files = [file for file in stock_files() if fnmatch.fnmatch(file, args.only)]
    results: Results = json.loads(args.results.read_text()) if args.results.is_file() else {}
    groups = groups_of(files, results.setdefault('kinds', {}))
    save(args.results, results)
    run_all(groups, args.methods, results, args.results, args.files, args.timeout)
    text, failed = table(groups, args.methods, results)
    print(text)
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
