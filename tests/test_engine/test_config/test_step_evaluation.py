"""Metrics that a config's evaluators ask for are computed or run beside; others are named."""

import csv
import json

import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS as MMSEG_METRICS

from mmseg_cil.engine.config.step_evaluation import evaluators_of
from mmseg_cil.engine.preflight import parts
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.visualization.report import render_report

ALL = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice', 'mFscore'], beta=2)


@MMSEG_METRICS.register_module()
class ShareOfBackground(BaseMetric):
    """A metric of the user's own."""

    seen = ()

    def process(self, data_batch, data_samples):
        self.results += [
            float((sample['pred_sem_seg']['data'] == 0).float().mean()) for sample in data_samples
        ]

    def compute_metrics(self, results):
        type(self).seen = (*self.seen, tuple(self.dataset_meta['classes']))
        return dict(mIoU=sum(results) / len(results))


@MMSEG_METRICS.register_module()
class OwnIoU(IoUMetric):
    """One whose names are those of the walk's own metric."""


def config(data_root, *metrics, **changes):
    cfg = tiny_config(data_root, 'finetune', **changes)
    if metrics:
        cfg.test_evaluator = metrics[0] if len(metrics) == 1 else list(metrics)
    return cfg


def test_what_stock_configs_ask_for(data_root):
    asked = evaluators_of(config(data_root, dict(type='IoUMetric', iou_metrics=['mDice'])))
    assert asked.iou_metrics == ('mIoU', 'mDice')
    assert evaluators_of(config(data_root)).iou_metrics == ('mIoU',)
    cfg = config(data_root)
    cfg.val_evaluator = dict(type=IoUMetric, iou_metrics='mFscore', beta=0.5)
    asked = evaluators_of(cfg)
    assert (asked.iou_metrics, asked.beta) == (('mIoU', 'mFscore'), 0.5)
    cfg.test_evaluator = dict(type='Evaluator', metrics=[ALL])
    cfg.test_evaluator.pop('type')
    assert evaluators_of(cfg).iou_metrics == ('mIoU', 'mDice', 'mFscore')


@pytest.mark.parametrize(
    ('metric', 'message'),
    [
        (dict(type='IoUMetric', iou_metrics=['mIoU', 'mKappa']), 'iou_metrics is .*mKappa'),
        (dict(type='IoUMetric', iou_metrics=3), 'iou_metrics is 3'),
        (dict(type='IoUMetric', beta='x'), "beta is 'x'"),
        (dict(iou_metrics=['mIoU']), 'must be the config of a metric'),
        ('IoUMetric', 'must be the config of a metric'),
        (dict(type='IouMetric'), 'did you mean IoUMetric'),
        (
            dict(type='IoUMetric', iou_metric=['mIoU']),
            "no argument 'iou_metric'; did you mean iou_met",
        ),
        (dict(type='ShareOfBackground', share=1), "test_evaluator: .*'share'"),
    ],
)
def test_a_wrong_evaluator_is_refused(data_root, tmp_path, metric, message):
    with pytest.raises(InputError, match=message):
        WalkRunner(config(data_root, metric), tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk/journal.json').exists()


@pytest.mark.parametrize(
    ('metric', 'part'),
    [
        (dict(type='IoUMetric', ignore_index=0), 'ignore_index=0 is not followed'),
        (dict(type='IoUMetric', output_dir='out'), 'writes no predictions'),
        (dict(type='IoUMetric', nan_to_num=0), 'nan_to_num'),
        (dict(type='CityscapesMetric', output_dir='x'), 'CityscapesMetric is left out'),
    ],
)
def test_what_is_not_done_is_said_once(data_root, tmp_path, monkeypatch, metric, part):
    said = []
    monkeypatch.setattr(parts, 'print_log', lambda text, *_: said.append(text))
    WalkRunner(config(data_root, metric), tmp_path / 'walk').open()
    assert sum(part in message for message in said) == 1


@pytest.mark.filterwarnings('ignore')
def test_scores_asked_for_and_metrics_of_the_user_are_there(data_root, tmp_path):
    cfg = config(data_root, ALL, dict(type='ShareOfBackground'), dict(type='OwnIoU'))
    scheduler = WalkRunner(cfg, tmp_path, steps='0-1').open()
    scheduler.run()
    entries = json.loads((tmp_path / 'metrics.json').read_text())['steps']
    assert set(entries[1]['mDice']) == {'all', 'old', 'new', 'base', 'later'}
    assert list(entries[1]['Fscore']) == entries[1]['seen']
    # The user's own metric saw the classes of each step, and took nobody's name.
    assert [len(classes) for classes in ShareOfBackground.seen] == [3, 4]
    logs = [json.loads(path.read_text()) for path in tmp_path.glob('step_01/*/*.json')]
    line = next(log for log in logs if 'mDice' in log)
    assert {'ShareOfBackground/mIoU', 'OwnIoU/mIoU', 'mIoU', 'mFscore', 'mRecall'} <= set(line)
    with open(tmp_path / 'metrics.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]['mPrecision_old']) == entries[1]['mPrecision']['old']
    page = render_report(tmp_path, echo=lambda text: None).read_text()
    assert 'mDice (%) after each step' in page and 'mRecall (%) after each step' in page
    exported = Config.fromfile(tmp_path / 'step_01/config.py').test_evaluator
    assert exported == dict(type='IoUMetric', iou_metrics=ALL['iou_metrics'], beta=2.0)
    # Other scores are another evaluation, of the same training.
    again = WalkRunner(config(data_root), tmp_path, resume=True, steps='0-1').open()
    again.run()
    entries = json.loads((tmp_path / 'metrics.json').read_text())['steps']
    assert 'mDice' not in entries[0] and 'mDice' not in entries[1]
