import json

import pytest
from synthetic_walks import make_walk

from mmseg_cil.errors import InputError
from mmseg_cil.visualization.tables import step_table
from mmseg_cil.visualization.walk_record import read_walk


def test_a_whole_walk_misses_nothing(tmp_path):
    folder, metrics = make_walk(tmp_path / 'w')
    walk = read_walk(folder)
    assert walk.missing == ()
    assert walk.title == 'toy_3-1 overlapped, mib'
    assert walk.steps == [0, 1, 2]
    assert walk.seen == ['background', 'cat', 'dog', 'cow', 'sheep']
    assert walk.iou('cow')[0] is None
    assert walk.iou('cow')[2] == metrics['steps'][2]['IoU']['cow']
    assert walk.miou('old') == [None, *(metrics['steps'][k]['mIoU']['old'] for k in (1, 2))]


def test_losses_survive_a_line_cut_off_and_the_later_log_wins(tmp_path):
    folder, _ = make_walk(tmp_path / 'w')
    later = folder / 'step_01' / '20250102_000000' / 'vis_data'
    later.mkdir(parents=True)
    (later / 'scalars.json').write_text('{"loss": 7.5, "iter": 600}\n{"loss": 7.0, "iter": 610}\n')
    losses = read_walk(folder).losses
    assert [len(loss.values) for loss in losses] == [60, 61, 60]
    assert losses[1].iterations[-2:] == (600, 610) and losses[1].values[-2:] == (7.5, 7.0)


def test_a_walk_in_progress_says_what_is_missing(tmp_path):
    folder, _ = make_walk(tmp_path / 'w', done=1, losses=False)
    missing = ' '.join(read_walk(folder).missing)
    assert '1 of 3 steps are evaluated; not yet: steps 1, 2.' in missing
    assert 'No training loss is logged for step 0: a step shorter' in missing
    (folder / 'journal.json').write_text('{')
    assert 'journal.json cannot be read' in ' '.join(read_walk(folder).missing)
    (folder / 'journal.json').unlink()
    assert 'journal.json is missing' in ' '.join(read_walk(folder).missing)


def test_the_smallest_metrics_file_is_enough(tmp_path):
    entry = {'step': 0, 'seen': ['a'], 'IoU': {'a': 0.5}, 'mIoU': {'all': 0.5}}
    content = {'protocol': 'p', 'method': 'm', 'steps': [entry]}
    (tmp_path / 'metrics.json').write_text(json.dumps(content))
    walk = read_walk(tmp_path)
    assert walk.introduced == [] and walk.miou('old') == [None] and walk.title == 'p, m'


def _break(metrics, path, value):
    target = metrics
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (['protocol'], None, '"protocol" is missing or no str'),
        (['steps'], {}, '"steps" is missing or no list'),
        (['steps', 1], 3, 'entry 1 of "steps": not an object'),
        (['steps', 1, 'step'], 0, 'a step is there twice'),
        (['steps', 1, 'IoU', 'cat'], 'high', '"IoU" must hold fractions'),
        (['steps', 1, 'IoU', 'cat'], 55.2, '"IoU" must hold fractions'),
        (['steps', 1, 'mIoU', 'all'], True, '"mIoU" must hold fractions'),
        (['steps', 1, 'groups'], [2], '"groups" must hold fractions'),
        (['steps', 1, 'introduced'], ['cat'], '"introduced" must list'),
        (['continual', 'BWT'], 'x', '"continual"'),
        (['palette', 'cat'], [1, 2, 'red'], '"palette"'),
        (['palette'], [], '"palette"'),
    ],
)
def test_damaged_metrics_are_refused_with_file_and_remedy(tmp_path, path, value, message):
    folder, metrics = make_walk(tmp_path / 'w')
    _break(metrics, path, value)
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    with pytest.raises(InputError) as error:
        read_walk(folder)
    assert str(folder / 'metrics.json') in str(error.value)
    assert message in str(error.value) and 'mmseg-cil test' in str(error.value)


def test_missing_and_truncated_files_are_refused(tmp_path):
    with pytest.raises(InputError, match='is no folder'):
        read_walk(tmp_path / 'nowhere')
    with pytest.raises(InputError, match=r'metrics\.json is missing.*mmseg-cil train'):
        read_walk(tmp_path)
    (tmp_path / 'metrics.json').write_bytes(b'{"protocol": "\xff')
    with pytest.raises(InputError, match=r'metrics\.json is damaged'):
        read_walk(tmp_path)


def test_hiou_is_shown_where_there_are_old_and_new_classes(tmp_path):
    # Files of earlier versions lack the value, and are read all the same.
    folder, metrics = make_walk(tmp_path / 'w')
    assert all('hIoU' not in entry['mIoU'] for entry in metrics['steps'])
    walk = read_walk(folder)
    old, new = walk.miou('old'), walk.miou('new')
    assert walk.miou('hIoU')[0] is None
    assert walk.miou('hIoU')[1:] == [
        pytest.approx(2 * a * b / (a + b)) for a, b in zip(old[1:], new[1:], strict=True)
    ]
    assert 'hIoU' in step_table(walk).header
    metrics['steps'] = metrics['steps'][:1]
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    assert 'hIoU' not in step_table(read_walk(folder)).header
