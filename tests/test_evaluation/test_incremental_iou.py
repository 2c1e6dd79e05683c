import numpy as np
import pytest
import torch
import torch.distributed as dist

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation import IncrementalIoUMetric
from mmseg_cil.registry import METRICS
from mmseg_cil.testing.processes import in_two_processes


def _samples(count, classes, domains=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for i in range(count):
        label = torch.randint(0, classes, (1, 6, 5 + i), generator=generator)
        pred = torch.where(
            torch.rand(label.shape, generator=generator) < 0.6,
            label,
            torch.randint(0, classes, label.shape, generator=generator),
        )
        label[0, 0] = 255
        samples.append(
            {
                'pred_sem_seg': {'data': pred},
                'gt_sem_seg': {'data': label.to(torch.uint8)},
                'cil_domain': i % domains,
                'img_path': f'{i}.jpg',
            }
        )
    return samples


def _metric(**changes):
    arguments = dict(class_steps=[0, 0, 1, 2], step=2, has_background=True)
    metric = IncrementalIoUMetric(**(arguments | changes))
    metric.dataset_meta = {'classes': ('background', 'cat', 'dog', 'cow')}
    return metric


def test_scores_agree_with_a_naive_count():
    samples = _samples(5, 4)
    metric = _metric()
    metric.process(None, samples[:2])
    metric.process(None, samples[2:])
    scores = metric.evaluate(5)
    label = torch.cat([s['gt_sem_seg']['data'].reshape(-1) for s in samples]).numpy()
    pred = torch.cat([s['pred_sem_seg']['data'].reshape(-1) for s in samples]).numpy()
    pred = pred[label != 255]
    label = label[label != 255]
    iou = [
        np.sum((label == c) & (pred == c)) / np.sum((label == c) | (pred == c)) for c in range(4)
    ]
    assert list(metric.result['IoU'].values()) == pytest.approx(iou, abs=1e-12)
    assert scores['mIoU'] == pytest.approx(100 * np.mean(iou))
    assert scores['mIoU_old'] == pytest.approx(100 * np.mean(iou[:3]))
    assert scores['mIoU_new'] == pytest.approx(100 * iou[3])
    assert scores['mIoU_base'] == pytest.approx(100 * np.mean(iou[:2]))
    assert scores['mIoU_later'] == pytest.approx(100 * np.mean(iou[2:]))
    old, new = scores['mIoU_old'], scores['mIoU_new']
    assert scores['hIoU'] == pytest.approx(2 * old * new / (old + new))
    assert scores['aAcc'] == pytest.approx(100 * np.mean(label == pred))
    assert metric.result['images'] == 5


def test_a_second_evaluation_starts_afresh_and_undefined_values_are_left_out():
    metric = _metric(class_steps=[0, 0, 0, 0], step=0, prefix='cil')
    metric.process(None, _samples(3, 4, seed=1))
    metric.evaluate(3)
    metric.process(None, _samples(2, 4, seed=2))
    scores = metric.evaluate(2)
    assert metric.result['images'] == 2
    assert 'cil/mIoU' in scores and not {'cil/mIoU_old', 'cil/hIoU'} & set(scores)
    assert metric.result['mIoU']['old'] is None


@pytest.mark.parametrize('domains', [1, 3])
def test_data_sets_are_scored_apart_and_together(domains):
    samples = [dict(sample, cil_data=i % 2) for i, sample in enumerate(_samples(6, 4, domains))]
    kind = dict(num_domains=3, class_steps=[0] * 4) if domains > 1 else {}
    metric = _metric(data_sets=['first', 'second', 'without images'], **kind)
    metric.process(None, samples)
    metric.evaluate(6)
    together = _metric(**kind)
    together.process(None, samples)
    together.evaluate(6)
    apart = metric.result.pop('data_sets')
    assert metric.result == together.result
    assert list(apart) == ['first', 'second']
    for place, name in enumerate(apart):
        alone = _metric(class_steps=kind.get('class_steps', [0, 0, 1, 2]))
        alone.process(None, samples[place::2])
        alone.evaluate(3)
        assert apart[name] == {key: alone.result[key] for key in ('images', 'mIoU', 'IoU')}
    with pytest.raises(InputError, match='cil_data is None, but there are 3 data sets'):
        metric.process(None, _samples(1, 4))


def test_domains_are_kept_apart():
    samples = _samples(6, 3, domains=3)
    both = dict(class_steps=[0, 0, 0], has_background=False, introduced=[['a'], ['b'], ['c']])
    metric = _metric(num_domains=3, **both)
    alone = _metric(**both)
    metric.dataset_meta = alone.dataset_meta = {'classes': ('x', 'y', 'z')}
    metric.process(None, samples)
    metric.evaluate(6)
    alone.process(None, samples[1::3])
    assert 100 * metric.result['groups'][1] == alone.evaluate(2)['mIoU']
    assert metric.result['images_by_domain'] == [2, 2, 2]


def test_is_built_by_the_registry_next_to_those_of_mmseg():
    config = dict(type='IncrementalIoUMetric', class_steps=[0], step=0, has_background=True)
    assert isinstance(METRICS.build(config), IncrementalIoUMetric)
    assert METRICS.get('IoUMetric').__module__.startswith('mmseg.')


def test_process_reads_nothing_back(monkeypatch):
    metric, samples = _metric(), _samples(3, 4)

    def forbidden(*args, **kwargs):
        raise AssertionError('process() waits for the device')

    with monkeypatch.context() as patch:
        for name in ('item', 'cpu', 'numpy', 'tolist', '__bool__', '__int__', 'nonzero'):
            patch.setattr(torch.Tensor, name, forbidden)
        metric.process(None, samples)
    assert metric.evaluate(3)['mIoU'] > 0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(class_steps=[]), 'class_steps is empty'),
        (dict(class_steps=[0, 3]), r'must lie in 0\.\.2'),
        (dict(num_domains=2), 'num_domains is 2'),
        (dict(introduced=[['a']]), 'introduced names 1 steps'),
        (dict(old='all'), "'previous' or 'base'"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(InputError, match=message):
        _metric(**change)


def test_wrong_samples():
    sample = _samples(1, 4)[0]
    with pytest.raises(InputError, match=r'0\.jpg: a sample without gt_sem_seg'):
        _metric().process(None, [{k: v for k, v in sample.items() if k != 'gt_sem_seg'}])
    with pytest.raises(InputError, match='differ in shape'):
        _metric().process(None, [{**sample, 'pred_sem_seg': {'data': torch.zeros(1, 2, 2)}}])
    domains = dict(class_steps=[0] * 4, num_domains=3)
    for domain in (None, -1, 3):
        with pytest.raises(InputError, match=f'cil_domain is {domain}'):
            _metric(**domains).process(None, [{**sample, 'cil_domain': domain}])
    metric = _metric(class_steps=[0, 1])
    metric.process(None, [sample])
    with pytest.raises(InputError, match=r'outside 0\.\.1'):
        metric.evaluate(1)
    metric = _metric(class_steps=[0, 0, 0, 1, 1])
    metric.process(None, [sample])
    with pytest.raises(InputError, match='names 4 classes, class_steps has 5'):
        metric.evaluate(1)


def _evaluate_share(shares, folder):
    rank = dist.get_rank()
    metric = _metric(class_steps=[0] * 4, num_domains=3, has_background=True)
    samples = _samples(sum(shares), 4, domains=3)
    start = sum(shares[:rank])
    if shares[rank]:
        metric.process(None, samples[start : start + shares[rank]])
    scores = metric.evaluate(sum(shares))
    torch.save((scores, metric.result), f'{folder}/{rank}.pt')


@pytest.mark.parametrize('shares', [(4, 3), (7, 0)])
def test_two_processes_with_unequal_shares_equal_one(shares, tmp_path):
    in_two_processes(_evaluate_share, shares, tmp_path, log=tmp_path / 'log')
    metric = _metric(class_steps=[0] * 4, num_domains=3)
    metric.process(None, _samples(7, 4, domains=3))
    expected = (metric.evaluate(7), metric.result)
    for rank in (0, 1):
        assert torch.load(tmp_path / f'{rank}.pt', weights_only=False) == expected
