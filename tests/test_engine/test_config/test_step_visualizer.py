"""Every step logs into a folder, and where a service keeps runs into a run, of its own."""

import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
from mmengine.visualization import LocalVisBackend
from mmseg.visualization import SegLocalVisualizer

from mmseg_cil.engine.config.step_visualizer import visualizer_of_step
from mmseg_cil.engine.preflight import visualizer as preflight
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.registry import VISBACKENDS, VISUALIZERS
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import logged

#: Instances of the backend below in the order in which they are built, each a list of calls.
BUILT = []


@VISBACKENDS.register_module()
class RecordingBackend(LocalVisBackend):
    """A backend that takes no calls after it is closed."""

    def __init__(self, save_dir):
        super().__init__(save_dir)
        self.calls = []
        BUILT.append(self)

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        assert 'close' not in self.calls
        self.calls.append((step, dict(scalar_dict)))

    def close(self):
        self.calls.append('close')


@VISUALIZERS.register_module()
class OwnVisualizer(SegLocalVisualizer):
    """A class further down, which has a dictionary of instances of its own."""


STOCK = dict(
    type='SegLocalVisualizer', name='visualizer', vis_backends=[dict(type='LocalVisBackend')]
)


def config(data_root, backends=(), hook=None, **changes):
    cfg = tiny_config(data_root, **changes)
    cfg.visualizer = {**STOCK, 'vis_backends': [dict(type='LocalVisBackend'), *backends]}
    cfg.default_hooks.visualization = hook or dict(type='SegVisualizationHook')
    return cfg


@pytest.mark.filterwarnings('ignore:The draw is False')
@pytest.mark.parametrize(('kind', 'draw'), [('SegLocalVisualizer', True), ('OwnVisualizer', False)])
def test_losses_pictures_and_scores_of_a_step_are_in_its_own_folder(
    data_root, tmp_path, kind, draw
):
    BUILT.clear()
    cfg = config(
        data_root, [dict(type='RecordingBackend')], dict(type='SegVisualizationHook', draw=draw)
    )
    cfg.visualizer.type = kind
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    scores = json.loads((tmp_path / 'metrics.json').read_text())['steps']
    walked = [backend for backend in BUILT if backend.calls]
    assert len(walked) == 2
    for step, images in enumerate((6, 7)):
        # Nothing of a step that came before.
        assert [line['step'] for line in logged(tmp_path, step)] == list(range(1, (7, 5)[step]))
        files = list(tmp_path.glob(f'step_{step:02d}/*/vis_data/vis_image/*.png'))
        assert len(files) == (images if draw else 0)
        *_, (point, means), close = walked[step].calls
        assert point == step and close == 'close'
        assert means == {
            f'step_mIoU/{part}': 100 * value
            for part, value in scores[step]['mIoU'].items()
            if value is not None
        }
        assert walked[step].calls.count('close') == 1
        assert Path(walked[step]._save_dir).parts[-3] == f'step_{step:02d}'


def test_places_and_names_that_the_user_gives_are_of_one_step_each():
    given = dict(
        type='SegLocalVisualizer',
        save_dir='logs',
        vis_backends=[
            dict(type='TensorboardVisBackend', save_dir='tb'),
            dict(type='LocalVisBackend'),
            dict(type='WandbVisBackend', init_kwargs=dict(project='p', name='mine', id='x7')),
            dict(type='WandbVisBackend'),
            dict(type='MLflowVisBackend', exp_name='e'),
            dict(type='ClearMLVisBackend', init_kwargs=dict(task_name='t')),
        ],
    )
    made = visualizer_of_step(given, 'runs/step_up/walk/step_02')
    assert made['save_dir'] == 'logs/step_02'
    board, local, mine, plain, flow, clear = made['vis_backends']
    assert board['save_dir'] == 'tb/step_02' and 'save_dir' not in local
    assert mine['init_kwargs'] == dict(
        project='p', name='mine_step_02', id='x7_step_02', group='walk'
    )
    assert plain['init_kwargs'] == dict(name='walk_step_02', group='walk')
    assert flow['run_name'] == 'walk_step_02' and flow['exp_name'] == 'e'
    assert clear['init_kwargs'] == dict(task_name='t_step_02')
    assert given['save_dir'] == 'logs' and 'init_kwargs' not in given['vis_backends'][3]
    # A sub-step has a run of its own, too.
    inner = visualizer_of_step(given, 'walk/step_02/prune')
    assert inner['vis_backends'][3]['init_kwargs']['name'] == 'walk_step_02_prune'
    # One backend need not be in a list.
    single = visualizer_of_step(dict(vis_backends=dict(type='WandbVisBackend')), 'w/step_00')
    assert single['vis_backends'][0]['init_kwargs']['name'] == 'w_step_00'


class FakeWandb(types.ModuleType):
    """Takes calls as W&B does: one run at a time, none after it is finished."""

    def __init__(self, joins):
        super().__init__('wandb')
        self.__spec__ = importlib.machinery.ModuleSpec('wandb', None)
        self.runs, self.run, self.config = [], None, self
        if joins:
            self.join = self.finish

    def init(self, **kwargs):
        assert self.run is None, 'a run is still open'
        self.run = self
        self.runs.append((kwargs, []))

    def update(self, content, allow_val_change=False):
        assert self.run is not None

    def log_code(self, name=None):
        pass

    def log(self, scalars, commit=True):
        assert self.run is not None, 'no run is open'
        self.runs[-1][1].append(dict(scalars))

    def finish(self):
        self.run = None


@pytest.mark.filterwarnings('ignore:The draw is False')
@pytest.mark.parametrize('joins', [True, False])
def test_wandb_has_one_run_a_step_with_its_scores(data_root, tmp_path, monkeypatch, joins):
    wandb = FakeWandb(joins)
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    cfg = config(data_root, [dict(type='WandbVisBackend', init_kwargs=dict(mode='offline'))])
    WalkRunner(cfg, tmp_path / 'walk', steps='0-1').run()
    assert wandb.run is None
    assert [settings['name'] for settings, _ in wandb.runs] == ['walk_step_00', 'walk_step_01']
    assert {(settings['group'], settings['mode']) for settings, _ in wandb.runs} == {
        ('walk', 'offline')
    }
    for step, (_, lines) in enumerate(wandb.runs):
        assert sum('loss' in line for line in lines) == (6, 4)[step]
        assert {'step_mIoU/all', 'step_mIoU/new'} <= set(lines[-1])
    assert 'step_mIoU/old' in wandb.runs[1][1][-1]


@pytest.mark.parametrize('kind', sorted(preflight.PACKAGES))
def test_a_package_that_is_not_installed_is_named_before_training(
    data_root, tmp_path, monkeypatch, kind
):
    found = importlib.util.find_spec
    missing = {name for packages in preflight.PACKAGES.values() for name in packages}
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name, *args: None if name in missing else found(name, *args),
    )
    package = next(iter(preflight.PACKAGES[kind].values()))
    cfg = config(data_root, [dict(type=kind)])
    with pytest.raises(InputError, match=rf'vis_backends.1: {kind} .*pip install {package}'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk/journal.json').exists()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(type='SegLocalVisualiser'), 'did you mean SegLocalVisualizer'),
        (dict(vis_backends=[dict(type='LocalBackend')]), 'did you mean LocalVisBackend'),
        (dict(vis_backends=[dict(type='LocalVisBackend', folder='x')]), "visualizer: .*'folder'"),
        (dict(vis_backends=[dict(type='LocalVisBackend')] * 2), 'LocalVisBackend already exists'),
        (dict(aplha=0.5), "visualizer: .*'aplha'"),
    ],
)
def test_a_wrong_visualizer_is_refused(data_root, tmp_path, changes, message):
    cfg = config(data_root)
    cfg.visualizer = {**STOCK, **changes}
    with pytest.raises(InputError, match=message):
        WalkRunner(cfg, tmp_path / 'walk').prepare()


def test_tensorboard_has_one_folder_of_events_a_step(data_root, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg = config(data_root, [dict(type='TensorboardVisBackend')])
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    scores = json.loads((tmp_path / 'metrics.json').read_text())['steps']
    for step in (0, 1):
        (folder,) = {
            path.parent
            for path in tmp_path.rglob('events.out*')
            if f'step_{step:02d}' in path.parts
        }
        events = EventAccumulator(str(folder)).Reload()
        assert [scalar.step for scalar in events.Scalars('loss')] == list(range(1, (7, 5)[step]))
        (point,) = events.Scalars('step_mIoU/all')
        assert point.step == step
        assert point.value == pytest.approx(100 * scores[step]['mIoU']['all'])
