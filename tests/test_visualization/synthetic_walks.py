"""Work directories made by hand, as a walk leaves them behind."""

import json
from pathlib import Path

import numpy as np

from mmseg_cil.visualization.samples import write_prediction, write_sample

# fmt: off
VOC = [
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car',
    'cat', 'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike',
    'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
]
# fmt: on


def make_walk(
    folder,
    steps=(('background', 'cat', 'dog'), ('cow',), ('sheep',)),
    method='mib',
    protocol='toy_3-1',
    kind='class',
    keep=0.9,
    done=None,
    samples=0,
    losses=True,
    seed=0,
    fingerprint='abc',
    domain_classes=('road', 'car', 'sky'),
):
    """Writes a walk whose IoU shrink by ``keep`` a step; returns (folder, metrics)."""
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    done = len(steps) if done is None else done
    classes = [name for group in steps for name in group] if kind == 'class' else domain_classes
    start = {name: 0.5 + 0.45 * rng.random() for name in classes}
    entries = [_entry(k, steps, kind, start, keep, classes) for k in range(done)]
    metrics = {
        'protocol': protocol,
        'method': method,
        'setting': 'overlapped' if kind == 'class' else 'sequential',
        'kind': kind,
        'palette': {name: [int(v) for v in rng.integers(0, 256, 3)] for name in classes},
        'steps': entries,
        'continual': {'average_mIoU': 0.61234, 'forgetting': 0.0789, 'BWT': -0.0567},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    journal = {
        'protocol': {
            'name': protocol,
            'classes': list(classes),
            'steps': [{'step': k} for k in range(len(steps))],
            'fingerprint': fingerprint,
        }
    }
    (folder / 'journal.json').write_text(json.dumps(journal))
    for step in range(done):
        (folder / f'step_{step:02d}').mkdir(exist_ok=True)
        if losses:
            _write_losses(folder / f'step_{step:02d}', rng)
    for index in range(samples):
        _write_pictures(folder, f'image_{index}', done, len(classes), rng)
    return folder, metrics


def _entry(step, steps, kind, start, keep, classes):
    groups = [list(group) for group in steps[: step + 1]]
    if kind == 'class':
        born = {name: k for k, group in enumerate(steps) for name in group}
    else:
        born = dict.fromkeys(classes, 0)
    seen = [name for name in classes if born[name] <= step]
    iou = {name: start[name] * keep ** (step - born[name]) for name in seen}

    def mean(names):
        values = [iou[name] for name in names]
        return sum(values) / len(values) if values else None

    def means(names):
        return {
            'all': mean(names),
            'old': mean([n for n in names if born[n] < step]) if step else None,
            'new': mean([n for n in names if born[n] == step or kind == 'domain']),
            'base': mean([n for n in names if born[n] == 0]),
            'later': mean([n for n in names if born[n] > 0]),
        }

    foreground = [name for name in seen if name != 'background']
    return {
        'step': step,
        'seen': seen,
        'introduced': groups,
        'IoU': iou,
        'accuracy': {name: min(1.0, value + 0.05) for name, value in iou.items()},
        'mIoU': means(seen),
        'mIoU_with_background': means(seen),
        'mIoU_without_background': means(foreground),
        'groups': [0.7 * keep ** (step - j) for j in range(step + 1)],
        'images': 100 + 50 * step,
        'settings': {
            'old': 'previous',
            'background_in_means': True,
            'absent': 'skip',
            'eps': 0.0,
            'background': 'background' if 'background' in classes else None,
        },
    }


def _write_losses(step_dir, rng):
    folder = step_dir / '20250101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    values = 2 * np.exp(-np.arange(60) / 15) + 0.2 + 0.1 * rng.random(60)
    lines = [
        json.dumps({'loss': v, 'lr': 0.01, 'iter': 10 * (i + 1), 'step': 10 * (i + 1)})
        for i, v in enumerate(values)
    ]
    lines.append(json.dumps({'mIoU': 0.5, 'step': 600}))
    lines.append('{"loss": 0.3, "it')  # cut off by a kill
    (folder / 'scalars.json').write_text('\n'.join(lines))


def _write_pictures(folder, name, steps, classes, rng):
    height, width = (90, 120) if rng.random() < 0.7 else (120, 90)
    rows, columns = np.mgrid[:height, :width]
    truth = np.zeros((height, width), np.uint8)
    for _ in range(3):
        y, x, r = rng.integers(20, 70), rng.integers(20, 70), rng.integers(12, 30)
        disc = (rows - y) ** 2 + (columns - x) ** 2
        truth[disc < (r + 2) ** 2] = 255
        truth[disc < r**2] = rng.integers(1, classes)
    image = np.clip(
        rng.normal(120, 20, (height, width, 3)) + 3 * (truth[..., None] % 21), 0, 255
    ).astype(np.uint8)
    write_sample(folder, name, image, truth)
    for step in range(steps):
        noise = rng.random((height, width)) < 0.05 + 0.01 * step
        guess = np.where(noise | (truth == 255), 0, truth)
        write_prediction(folder / f'step_{step:02d}', name, guess)
