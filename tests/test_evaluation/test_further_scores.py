"""Dice, F-score, precision and recall against plain statements and MMSegmentation's own."""

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from mmseg_cil.evaluation import IncrementalIoUMetric
from mmseg_cil.evaluation.further_scores import further_entry
from mmseg_cil.evaluation.step_scores import ScoreSettings

NAMES = ['background', 'a', 'b', 'c']
BOTH = ('mDice', 'mFscore')


def entry(confusion, metrics=BOTH, beta=1.0, steps=(0, 0, 1, 2), step=2, **settings):
    confusion = np.asarray(confusion)
    confusion = confusion if confusion.ndim == 3 else confusion[None]
    return further_entry(
        confusion, steps, step, NAMES, True, ScoreSettings(**settings), metrics, beta
    )


@pytest.mark.parametrize('beta', [1.0, 2.0, 0.5])
def test_every_class_scores_as_in_mmsegmentation(beta):
    confusion = np.random.default_rng(0).integers(1, 90, (4, 4))
    found = entry(confusion, beta=beta)
    hits, truth, pred = (
        torch.tensor(counts, dtype=torch.float64)
        for counts in (np.diag(confusion), confusion.sum(1), confusion.sum(0))
    )
    theirs = IoUMetric.total_area_to_metrics(
        hits, truth + pred - hits, pred, truth, list(BOTH), beta=beta
    )
    for name in ('Dice', 'Fscore', 'Precision', 'Recall'):
        assert list(found[name]) == NAMES
        assert list(found[name].values()) == pytest.approx(theirs[name].tolist())
        values = list(found[name].values())
        assert found[f'm{name}'] == pytest.approx(
            dict(
                all=np.mean(values),
                old=np.mean(values[:3]),
                new=values[3],
                base=np.mean(values[:2]),
                later=np.mean(values[2:]),
            )
        )


def test_only_what_is_asked_for_is_there():
    confusion = np.ones((4, 4), int)
    assert entry(confusion, ('mIoU',)) == {}
    assert list(entry(confusion, ('mIoU', 'mDice'))) == ['Dice', 'mDice']
    assert list(entry(confusion, ('mFscore',))) == [
        'Fscore',
        'mFscore',
        'Precision',
        'mPrecision',
        'Recall',
        'mRecall',
    ]


def test_classes_without_pixels_or_hits():
    confusion = np.diag([5, 5, 0, 0])
    # b is never found, c has no pixel but is predicted.
    confusion[2, 3] = 4
    found = entry(confusion)
    assert found['Dice'] == dict(background=1.0, a=1.0, b=0.0, c=None)
    # Precision and recall of 0 are an F-score of 0, not an undefined one.
    assert found['Fscore'] == found['Dice']
    assert found['Precision'] == dict(background=1.0, a=1.0, b=None, c=None)
    assert found['mRecall']['all'] == pytest.approx(2 / 3) and found['mDice']['new'] is None


def test_the_background_rule_and_the_old_classes_are_those_of_the_mean_iou():
    confusion = np.diag([8, 4, 2, 6])
    confusion[0, 1] = 4
    found = entry(confusion, background_in_means=False, old='base')
    dice = found['Dice']
    assert found['mDice']['all'] == pytest.approx(np.mean([dice['a'], dice['b'], dice['c']]))
    assert found['mDice']['old'] == dice['a']


def test_a_walk_over_domains_has_parts_by_their_images():
    first, second = np.diag([4, 4, 4, 4]), np.full((4, 4), 2)
    found = entry(np.stack([first, second]), steps=(0, 0, 0, 0), step=1)
    assert found['mDice']['old'] == 1.0 and found['mDice']['new'] == pytest.approx(0.25)
    assert found['Dice']['a'] == pytest.approx(2 * 6 / (12 + 12))


def test_the_metric_adds_them_to_entry_and_log(monkeypatch):
    printed = []
    monkeypatch.setattr(
        'mmseg_cil.evaluation.incremental_iou.print_log', lambda text, *_: printed.append(text)
    )
    metric = IncrementalIoUMetric([0, 0, 1], 1, True, iou_metrics=['mIoU', *BOTH])
    metric.dataset_meta = dict(classes=NAMES[:3])
    label, pred = torch.tensor([[[0, 1, 2, 2]]]), torch.tensor([[[0, 1, 2, 1]]])
    metric.process(None, [dict(pred_sem_seg=dict(data=pred), gt_sem_seg=dict(data=label))])
    scores = metric.evaluate(1)
    assert metric.result['mDice']['all'] == pytest.approx((1 + 2 / 3 * 2) / 3)
    assert scores['mDice'] == 100 * metric.result['mDice']['all']
    head, *rows = printed[0].splitlines()[1:]
    assert head.split()[-8:] == ['Dice', '%', 'Fscore', '%', 'Precision', '%', 'Recall', '%']
    assert rows[1].split() == ['a', '50.00', '100.00', '66.67', '66.67', '50.00', '100.00']
