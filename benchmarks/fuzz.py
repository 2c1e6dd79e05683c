"""Breaks the input of tiny walks in many ways, and judges what the tools answer.

    python benchmarks/fuzz.py [--cases 1000] [--seed 0] [--only PATTERN] [--keep DIR] [--json FILE]

Every case is a fresh copy of a tiny data set, config and command line, broken by one mutation
of ``benchmarks/fuzzing``, and run in a process of its own (forked, so that nothing is imported
twice). Case i of a seed is always the same: ``--case 17`` runs it alone and shows its output.

A case is right where the tool refuses the input in one message with exit status 2 before the
first training iteration, or where it walks to the end and that is right for this input. Exit
status: 0 all cases are right, 1 some are wrong.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing import Case, World, mutations
from fuzzing.process import Outcome, run_forked
from fuzzing.world import prepare_data, small_config

#: Verdicts; the first two are right.
CLEAR, ACCEPTED = 'clear refusal', 'rightly accepted'
WRONGLY, LATE, BARE, HANG, OTHER, HARM = (
    'wrongly accepted',
    'refused after training began',
    'bare traceback',
    'hang',
    'refused for another reason',
    'harm',
)


def judge(case: Case, outcome: Outcome, folder: Path) -> tuple[str, str]:
    """Return the verdict on a case, and a remark.

    Args:
        case: The expectation.
        outcome: Text and exit status of the tool.
        folder: The case's folder.
    """
    text = outcome.text
    lower = text.lower()
    if outcome.status is None:
        return HANG, 'no end within the time'
    if 'Traceback (most recent call last)' in text:
        return BARE, text.strip().splitlines()[-1][:200]
    problem = (
        case.check(folder)
        if case.check and (outcome.status == 0 or case.check.__name__ != '_all_images')
        else None
    )
    if problem:
        return HARM, problem
    if outcome.status == 0:
        if case.expected == 'refused':
            return WRONGLY, 'exit 0'
        if case.expected == 'told' and not any(word.lower() in lower for word in case.told):
            return WRONGLY, f'nothing is said of {case.told}'
        return ACCEPTED, ''
    message = text[text.find('error:') :] if 'error:' in text else ''
    if outcome.status != 2:
        stopped = 'not finite' in lower and case.expected == 'any'
        return (
            (CLEAR, message[:200]) if stopped else (BARE, f'exit {outcome.status}: {text[-200:]}')
        )
    if 'Iter(train)' in text:
        return LATE, message[:200]
    if case.expected == 'works':
        return OTHER, f'refused, but it is right: {message[:200]}'
    if case.words and not any(word.lower() in message.lower() for word in case.words):
        return OTHER, f'none of {case.words} in: {message[:200]}'
    return CLEAR, message[:200]


def prepared_walks(folder: Path) -> tuple[Path, Path]:
    """Walk once to the end, and once until a kill in the middle of step 1."""
    world = World(folder, random.Random(0))
    prepare_data(world.data)
    world.cfg = small_config(world.data, 'vdfd')
    world.cfg['default_hooks']['checkpoint']['interval'] = 1
    world.write_config()
    finished = ['train', 'config.py', '--work-dir', 'finished', '--no-report']
    begun = ['train', 'config.py', '--work-dir', 'begun', '--no-report']
    for argv, killed in ((finished, None), (begun, (1, 1))):
        outcome = run_forked(argv, folder, {}, 300, killed)
        if outcome.status not in (0, 9):
            raise SystemExit(f'the walk to begin with fails:\n{outcome.text[-3000:]}')
    return folder / 'finished', folder / 'begun'


def run_case(
    number: int, names: list[str], options: argparse.Namespace, walks: tuple[Path, Path], data: Path
) -> dict[str, str | int]:
    """Run one case and return its row."""
    rng = random.Random(f'{options.seed}:{number}')
    name = names[number % len(names)]
    folder = Path(tempfile.mkdtemp(prefix='fuzz_'))
    try:
        shutil.copytree(data, folder / 'data')
        world = World(folder, rng, *walks)
        case = mutations()[name](world)
        world.write_config()
        outcome = run_forked(world.argv, folder, world.env, options.timeout)
        verdict, remark = judge(case, outcome, folder)
        wrong = verdict not in (CLEAR, ACCEPTED)
        if options.case is not None:
            print(outcome.text)
        if wrong and options.keep:
            target = Path(options.keep) / f'{number:05d}_{name}'
            shutil.copytree(folder, target, symlinks=True, dirs_exist_ok=True)
            (target / 'output.txt').write_text(' '.join(world.argv) + '\n' + outcome.text)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return dict(case=number, mutation=name, expected=case.expected, verdict=verdict, remark=remark)


def main() -> None:
    """Run all cases and print the counts."""
    parser = argparse.ArgumentParser(description='Break the input of tiny walks in many ways.')
    parser.add_argument('--cases', type=int, default=1000)
    parser.add_argument('--case', type=int, help='run this case alone and show its output')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', default='*', help='mutations, as a pattern such as "masks.*"')
    parser.add_argument('--timeout', type=float, default=120.0, help='seconds a case may take')
    parser.add_argument('--keep', help='folder for the files of the cases that are wrong')
    parser.add_argument('--json', help='file for the rows')
    options = parser.parse_args()
    names = [name for name in mutations() if fnmatch.fnmatch(name, options.only)]
    base = Path(tempfile.mkdtemp(prefix='fuzz_base_'))
    try:
        walks = prepared_walks(base)
        numbers = range(options.cases) if options.case is None else [options.case]
        rows = []
        for number in numbers:
            rows.append(run_case(number, names, options, walks, base / 'data'))
            row = rows[-1]
            if row['verdict'] not in (CLEAR, ACCEPTED):
                print(
                    f'{row["case"]:5d} {row["mutation"]}: {row["verdict"]}: {row["remark"]}',
                    flush=True,
                )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    counts = collections.Counter(row['verdict'] for row in rows)
    print(', '.join(f'{verdict}: {count}' for verdict, count in counts.most_common()))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1))
    sys.exit(0 if set(counts) <= {CLEAR, ACCEPTED} else 1)


if __name__ == '__main__':
    main()
