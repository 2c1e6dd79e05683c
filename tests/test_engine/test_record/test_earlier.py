"""Work directories of the version that counted images: they go on as they are."""

import json
import shutil

import pytest
import torch

from mmseg_cil.engine import walk_runner as scheduler_module
from mmseg_cil.engine.record.earlier import recognise_counts
from mmseg_cil.engine.record.fingerprint import (
    evaluation_fingerprint,
    fingerprint,
    training_fingerprints,
)
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.resume_state import can_resume, step_identity
from mmseg_cil.engine.sub_steps.run import _identity
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import IDENTITY_KEY, RESUME_NAME
from mmseg_cil.testing import walks
from mmseg_cil.testing.tiny import STEPS, tiny_config
from mmseg_cil.testing.walks import at
from mmseg_cil.utils.atomic import write_json


class Coda:
    """A sub-step after a step, as far as its identity goes."""

    name, when = 'coda', 'after'


def as_before(work_dir, walk):
    """Rewrites a work directory as that version would have left it."""
    content = json.loads((work_dir / 'journal.json').read_text())
    counted = {
        **training_fingerprints(walk.cfg, walk.protocol, walk.train_images, 1),
        'evaluation': evaluation_fingerprint(walk.cfg, walk.protocol, walk.test_images),
    }
    content['fingerprints'] = counted
    del content['data'], content['computing']
    for record in content['steps']:
        record['evaluation'] = counted['evaluation']
        for key in ('training_images', 'metrics_sha256', 'kept_sha256', 'computing'):
            del record[key]
        hashes = fingerprint([(0, record['checkpoint_sha256'])])
        record['sub_steps'] = {
            'coda': dict(
                files={},
                evaluation=counted['evaluation'],
                identity={
                    **step_identity(0, 3, counted),
                    'sub_step': 'coda',
                    'checkpoints': hashes,
                },
            )
        }
    write_json(work_dir / 'journal.json', content)
    path = work_dir / 'step_01' / RESUME_NAME
    state = torch.load(path, weights_only=False)
    state['meta'][IDENTITY_KEY] = step_identity(1, 4, counted)
    torch.save(state, path)
    path.with_name(f'{RESUME_NAME}.sha256').unlink()
    return counted


@pytest.fixture(scope='module')
def killed(data_root, tmp_path_factory):
    """Step 0 done, step 1 killed; rewritten; and its walk and fingerprints."""
    work_dir = tmp_path_factory.mktemp('before')
    cfg = tiny_config(data_root)
    scheduler = WalkRunner(cfg, work_dir).open()
    with walks.killed(at(step=1, iteration=3)):
        scheduler.run()
    return work_dir, scheduler.walk, as_before(work_dir, scheduler.walk)


@pytest.fixture
def work_dir(killed, tmp_path):
    return shutil.copytree(killed[0], tmp_path / 'walk')


def test_it_goes_on_where_it_stood(work_dir, data_root, killed, monkeypatch):
    scheduler = WalkRunner(tiny_config(data_root), work_dir, resume=True).open()
    content = json.loads((work_dir / 'journal.json').read_text())
    assert content['data'] == scheduler.walk.prints.to_dict()
    assert content['fingerprints']['training images'] != killed[2]['training images']
    assert scheduler_module.outdated_steps(scheduler.walk, scheduler.journal) == {}
    identity = step_identity(1, 4, content['fingerprints'])
    folder = work_dir / 'step_01'
    assert can_resume(folder, identity, content['former'])
    with pytest.raises(InputError, match='differs in: training images'):
        can_resume(folder, identity)
    coda = content['steps'][0]['sub_steps']['coda']
    assert coda['identity'] == {
        **_identity(scheduler.walk, scheduler.journal, 0, Coda),
        'evaluation': killed[2]['evaluation'],
    }
    # Now it knows its images.
    WalkRunner(tiny_config(data_root), work_dir, resume=True).open()
    with pytest.raises(InputError, match='training images'):
        WalkRunner(other_images(data_root), work_dir, resume=True).prepare()


def other_images(data_root):
    """As many, in another order."""
    cfg = tiny_config(data_root)
    names = (data_root / 'lists/train.txt').read_text().split()
    path = data_root / 'lists/reversed.txt'
    path.write_text('\n'.join(reversed(names)))
    cfg.train_dataloader.dataset.ann_file = 'lists/reversed.txt'
    return cfg


def test_other_numbers_of_images_are_refused_as_ever(work_dir, data_root):
    cfg = tiny_config(data_root)
    cfg.train_dataloader.dataset.ann_file = 'lists/val.txt'
    with pytest.raises(InputError, match=r'training images \(of steps 0, 1, 2: another number'):
        WalkRunner(cfg, work_dir, resume=True).prepare()
    with pytest.raises(InputError, match=r'start-from .*: step 0 of that run had other'):
        WalkRunner(cfg, work_dir.parent / 'new', start_from=str(work_dir)).prepare()


def test_it_is_taken_over_without_another_evaluation(work_dir, data_root, tmp_path):
    scheduler = WalkRunner(
        tiny_config(data_root), tmp_path / 'new', start_from=str(work_dir)
    ).open()
    assert scheduler_module.outdated_steps(scheduler.walk, scheduler.journal) == {}
    # The source stays as it is.
    assert 'data' not in json.loads((work_dir / 'journal.json').read_text())


def test_further_steps_are_told_from_those_that_are_there(work_dir, killed, data_root):
    """The journal of a shorter walk, and a config of a longer one."""
    _, walk, _ = killed
    journal = Journal.load(work_dir, writable=False)
    content = journal.content
    shorter = (
        WalkRunner(
            tiny_config(data_root, **{'protocol.steps': STEPS[:2]}), work_dir.parent / 'short'
        )
        .open()
        .walk
    )
    content['images']['train'] = list(walk.train_images[:2])
    content['protocol'] = json.loads(json.dumps(shorter.protocol.to_dict()))
    whole = {
        'training images': fingerprint(walk.train_images[:2]),
        'protocol': shorter.protocol.training_fingerprint(),
    }
    content['fingerprints'].update(whole)
    content['steps'][0]['sub_steps']['coda']['identity'].update(whole)
    assert recognise_counts(walk, journal)
    assert content['fingerprints']['training images'] == fingerprint(walk.prints.train[:2])
    coda = content['steps'][0]['sub_steps']['coda']['identity']
    assert coda['protocol'] == walk.protocol.beginning_fingerprint(0)
    assert coda['training images'] == fingerprint(walk.prints.train[:1])
