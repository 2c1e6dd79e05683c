"""Messages of a walk on the console."""

import logging
import warnings

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from mmseg_cil.engine.runner.step_runner import StepRunner, clear_instances
from mmseg_cil.evaluation import IncrementalIoUMetric
from mmseg_cil.utils.quiet import ConsoleFilter, quieten_console, quieten_warnings


class Nothing(BaseModel):
    def forward(self, inputs, data_samples=None, mode='loss'):
        return inputs


@pytest.fixture
def runner_of(tmp_path):
    """Builds a Runner at a log level; nothing of it is left for other tests."""

    def build(level):
        init_default_scope('mmseg_cil')
        return StepRunner(
            Nothing(),
            str(tmp_path),
            log_level=level,
            experiment_name='quiet',
            default_scope='mmseg_cil',
        )

    clear_instances()
    yield build
    clear_instances()


def shown(level, text):
    record = logging.LogRecord('x', level, 'x.py', 1, text, None, None)
    return ConsoleFilter().filter(record)


def test_only_what_is_repeated_at_every_step_is_withheld():
    assert not shown(logging.INFO, 'Config:\nmodel = dict()')
    assert not shown(logging.INFO, '\n------------\nSystem environment:')
    assert not shown(logging.INFO, 'paramwise_options -- backbone.conv1.weight:lr=0.1')
    assert not shown(logging.WARNING, '"FileClient" will be deprecated in future.')
    assert shown(logging.INFO, 'Iter(train) [1/6]')
    assert shown(logging.WARNING, 'the pipeline crops to (24, 24)')
    assert shown(logging.ERROR, 'Config: is broken')


def test_the_log_file_has_what_the_console_is_spared(runner_of, capsys, tmp_path):
    runner = runner_of('INFO')
    runner.logger.info('a line of the walk')
    printed = capsys.readouterr().out
    logged = next(tmp_path.glob('*/*.log')).read_text()
    assert 'a line of the walk' in printed and 'a line of the walk' in logged
    for text in ('System environment', 'Hooks will be executed'):
        assert text not in printed and text in logged


def test_a_console_is_filtered_once():
    logger = logging.Logger('x')
    logger.addHandler(logging.StreamHandler())
    logger.handlers[0].setLevel(logging.INFO)
    for _ in range(2):
        quieten_console(logger)
    assert len(logger.handlers[0].filters) == 1


def test_debugging_shows_all(runner_of, capsys):
    runner_of('DEBUG')
    assert 'System environment' in capsys.readouterr().out


def test_the_metric_needs_no_prefix(capsys):
    IncrementalIoUMetric([0, 0], step=0, has_background=True)
    assert 'prefix' not in capsys.readouterr().out
    metric = IncrementalIoUMetric([0, 0], step=0, has_background=True, prefix='val')
    label = dict(data=torch.tensor([[[0, 1]]]))
    metric.process(None, [dict(pred_sem_seg=label, gt_sem_seg=label)])
    assert metric.evaluate(1)['val/mIoU'] == 100.0


def test_other_warnings_come_through():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        quieten_warnings()
        warnings.warn('Default ``avg_non_ignore`` is False, if you would like', stacklevel=1)
        warnings.warn('something else', stacklevel=1)
    assert [str(warning.message) for warning in caught] == ['something else']
