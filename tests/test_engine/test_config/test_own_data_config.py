"""Data sets of steps take missing settings from the rest of the config."""

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.own_data import own_data_of, with_own_data
from mmseg_cil.errors import InputError

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]


def config(first=None, **data):
    train = dict(type='BaseSegDataset', data_root='new')
    steps = [first or ['background', 'cat'], dict(classes=['cow'], data=dict(train=train, **data))]
    return Config(
        dict(
            protocol=dict(name='x', steps=steps),
            train_dataloader=dict(batch_size=3, dataset=dict(data_root='old', pipeline=LOAD)),
            val_dataloader=dict(batch_size=2, dataset=dict(data_root='old', pipeline=LOAD[:2])),
        )
    )


def test_a_data_set_without_pipeline_has_that_of_the_config():
    test = dict(type='BaseSegDataset')
    cfg = config(test=test)
    found = with_own_data(cfg)
    ((where, data),) = own_data_of(found.protocol)
    assert where == 'step 1'
    assert [part['type'] for part in data['train']['pipeline']] == [p['type'] for p in LOAD]
    # Tests have the pipeline of validation where there is no other.
    assert len(data['test']['pipeline']) == 2
    assert 'pipeline' not in cfg.protocol.steps[1].data.train
    # The dataset of the dataloaders is that of step 0.
    assert found.train_dataloader.dataset.data_root == 'old'
    assert with_own_data(found).to_dict() == found.to_dict()


def test_a_borrowed_pipeline_reads_ids_as_they_are():
    cfg = config()
    # As in MMSegmentation's configs of ADE20K.
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = True
    ((_, data),) = own_data_of(with_own_data(cfg).protocol)
    assert 'reduce_zero_label' not in data['train']['pipeline'][1]
    assert cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label


def test_its_own_pipeline_stays():
    cfg = config()
    cfg.protocol.steps[1].data.train.pipeline = LOAD[1:]
    ((_, data),) = own_data_of(with_own_data(cfg).protocol)
    assert len(data['train']['pipeline']) == 2


def test_without_any_pipeline_it_is_refused():
    cfg = config()
    cfg.train_dataloader.dataset.pop('pipeline')
    with pytest.raises(InputError, match=r'step 1: data\.train has no pipeline'):
        with_own_data(cfg)


def test_data_that_no_step_reads_are_not_looked_at():
    cfg = config()
    cfg.protocol.checkpoint = dict(checkpoint='old.pth', classes=['background', 'cat'])
    found = with_own_data(cfg)
    assert found.train_dataloader.batch_size == 3
    assert found.train_dataloader.dataset.data_root == 'new'
    assert found.test_dataloader.batch_size == 2
    assert found.test_dataloader.dataset.data_root == 'new'
    assert found.val_dataloader is None
    # The size of a batch is nothing to be guessed.
    cfg.protocol.steps[1].data.train.pipeline = LOAD
    cfg.pop('train_dataloader')
    assert with_own_data(cfg).get('train_dataloader') is None


def test_a_config_without_such_data_stays_as_it_is():
    cfg = Config(dict(protocol=dict(name='voc_15-1')))
    assert with_own_data(cfg) is cfg
