"""A linear probe of a walk: it tells forgetting apart, and leaves the walk as it was."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmseg_cil.cli.main import main
from mmseg_cil.engine.commands import run_walk
from mmseg_cil.engine.evaluate import open_walk
from mmseg_cil.engine.probe import ProbeSettings, check_labels, joint_view
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import seasons

pytestmark = pytest.mark.walk


def walk_by(data_root, work_dir, protocol=None, **changes):
    cfg = tiny_config(data_root, 'finetune', **changes)
    cfg.protocol = protocol or cfg.protocol
    run_walk(cfg, work_dir, steps='0-1', report=False)
    return open_walk(cfg, work_dir, Journal.load(work_dir, writable=False))


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    """A walk by fine-tuning over steps 0 and 1."""
    return walk_by(data_root, tmp_path_factory.mktemp('probed'))


def probe(work_dir, *options):
    with pytest.raises(SystemExit) as ended:
        main(['probe', str(work_dir), *options])
    return ended.value.code


def files(work_dir):
    return {
        path: path.read_bytes()
        for path in work_dir.rglob('*')
        if path.is_file() and path.name != 'probe.json'
    }


def test_the_probe_stands_beside_the_steps_and_changes_nothing(walked, capsys):
    before = files(walked.work_dir)
    assert probe(walked.work_dir, '--iters', '30') == 0
    printed = capsys.readouterr().out
    assert files(walked.work_dir) == before
    path = walked.work_dir / 'probe.json'
    content = json.loads(path.read_text())
    metrics = json.loads((walked.work_dir / 'metrics.json').read_text())['steps']
    assert [entry['step'] for entry in content['steps']] == [0, 1]
    for entry, own in zip(content['steps'], metrics, strict=True):
        assert entry['mIoU'] == own['mIoU'] and entry['IoU'] == own['IoU']
        assert entry['probe']['IoU'].keys() == own['IoU'].keys()
        assert entry['probe']['mIoU'].keys() == own['mIoU'].keys()
    last = content['steps'][1]
    # The last step's classifier never says the new class, but the embedding tells it.
    assert last['mIoU']['new'] == 0 < last['probe']['mIoU']['new']
    for part in ('old', 'new'):
        assert f'{100 * last["probe"]["mIoU"][part]:.2f}' in printed
    assert content['settings'] == dict(iterations=30, lr=0.01, seed=0, batch_size=4)
    # It is the same every time, whatever the random state; another seed draws other crops.
    first = path.read_bytes()
    torch.manual_seed(5)
    assert probe(walked.work_dir, '--iters', '30') == 0
    assert path.read_bytes() == first
    assert probe(walked.work_dir, '--iters', '30', '--seed', '1') == 0
    assert json.loads(path.read_text())['steps'] != content['steps']


def test_its_images_are_those_of_all_steps_with_all_their_labels(walked):
    names = set()
    for step in (0, 1):
        view = joint_view(walked, step)
        own = walked.train_images[step]
        names |= set(view.image_names)
        assert len(view) >= own
    assert set(view.image_names) == names
    labels = Counter()
    for index in range(len(view)):
        labels += Counter(np.unique(view[index]['data_samples'].gt_sem_seg.data).tolist())
    # Background, the two classes of step 0 and that of step 1, in the order of the outputs.
    assert set(labels) <= {0, 1, 2, 3, 255} and {0, 1, 2, 3} <= set(labels)
    assert view.metainfo['classes'] == tuple(walked.seen_names(1))


def test_domains_so_far_are_probed_too(data_root, tmp_path):
    walk = walk_by(data_root, tmp_path, seasons(['early'], ['late'], ['last']))
    assert [len(set(joint_view(walk, step).image_names)) for step in (0, 1)] == [
        walk.train_images[0],
        sum(walk.train_images[:2]),
    ]
    assert probe(tmp_path, '--iters', '5') == 0
    content = json.loads((tmp_path / 'probe.json').read_text())
    assert content['steps'][1]['probe']['mIoU']['old'] is not None


@pytest.mark.parametrize('option', [('--iters', '0'), ('--lr', '0'), ('--iters', 'x')])
def test_options_that_are_none_are_refused(walked, option, capsys):
    assert probe(walked.work_dir, *option) == 2
    assert capsys.readouterr().err.startswith('error: ')
    with pytest.raises(InputError, match='iterations'):
        ProbeSettings(iterations=0)


def test_scores_of_another_kind_and_missing_walks_are_refused(walked, tmp_path, capsys):
    assert probe(tmp_path) == 2
    assert 'no walk' in capsys.readouterr().err
    options = ('--cfg-options', 'protocol.policy.old=base')
    assert probe(walked.work_dir, '--iters', '5', *options) == 2
    assert 'mmseg-cil test' in capsys.readouterr().err


def test_walks_whose_images_do_not_label_all_classes_are_refused(walked):
    protocol = walked.protocol
    free = replace(protocol.taxonomy, free=frozenset({1}))
    for other, message in (
        (replace(protocol, own_data=('set',)), 'data sets of their own'),
        (replace(protocol, taxonomy=free), 'do not label all classes'),
    ):
        with pytest.raises(InputError, match=message):
            check_labels(other)
