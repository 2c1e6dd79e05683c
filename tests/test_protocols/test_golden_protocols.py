"""Equality with what the official MiB and PLOP code selects, maps and splits."""

from pathlib import Path

import numpy as np
import pytest

from mmseg_cil.protocols import build_protocol
from mmseg_cil.protocols.cities import CITIES

GOLDEN = Path(__file__).resolve().parents[1] / 'golden'
FILES = {'voc': 'voc_tasks__natural.npz', 'ade20k': 'ade_tasks__100-50.npz'}


def golden(name):
    with np.load(GOLDEN / name) as file:
        return {key: file[key] for key in file.files}


def tasks():
    for dataset, name in FILES.items():
        for key in golden(name):
            if key.startswith('classes__'):
                _, task, step = key.split('__')
                yield pytest.param(dataset, task, int(step), id=f'{dataset}-{task}-{step}')


def presence_by_mask_id(content):
    """Golden presence is by label; void, where the file has it, is mask id 255."""
    presence = content['presence'].astype(bool)
    result = np.zeros((len(presence), 256), bool)
    result[:, : presence.shape[1]] = presence
    result[:, 255] = content['void'].astype(bool)
    return result


@pytest.mark.parametrize(('dataset', 'task', 'step'), tasks())
def test_images_and_label_tables_are_the_official_ones(dataset, task, step):
    content = golden(FILES[dataset])
    presence = presence_by_mask_id(content)
    names = [f'{i:04d}' for i in range(len(presence))]
    for setting in ('overlapped', 'disjoint'):
        protocol = build_protocol(dict(name=f'{dataset}_{task}', setting=setting, preset='mib'))
        assert list(protocol.steps[step].new) == list(content[f'classes__{task}__{step}'])
        np.testing.assert_array_equal(
            protocol.train_images(step, presence, names),
            content[f'train__{task}__{setting}__{step}'],
        )
        np.testing.assert_array_equal(
            protocol.test_images(step, presence, names), content[f'test__{task}__{step}']
        )
    for preset in ('mib', 'plop'):
        protocol = build_protocol(dict(name=f'{dataset}_{task}', preset=preset))
        for split, table in (
            ('train', protocol.train_table(step)),
            ('test', protocol.test_table(step)),
        ):
            np.testing.assert_array_equal(
                table, content[f'map_{preset}_{split}__{task}__{step}'], err_msg=split
            )


def city_images(content):
    """Names in the folders of Cityscapes, in the official path order."""
    names = []
    for number, city in enumerate(content['city_of_image']):
        split = 'val' if CITIES[city] in ('frankfurt', 'lindau', 'munster') else 'train'
        names.append(f'{split}/{CITIES[city]}/{CITIES[city]}_{number:06d}_000019_leftImg8bit')
    return names


def city_steps():
    return [
        key.split('__')[1:]
        for key in golden('cityscapes_domain__a.npz')
        if key.startswith('cities__')
    ]


@pytest.mark.parametrize(('task', 'step'), city_steps())
def test_the_legacy_city_split_is_the_official_one(task, step):
    content = golden('cityscapes_domain__a.npz')
    protocol = build_protocol(dict(name=f'cityscapes_domain_{task}', split='legacy'))
    cities = [CITIES[i] for i in content[f'cities__{task}__{step}']]
    assert list(protocol.steps[int(step)].domains) == cities
    names, presence = city_images(content), np.zeros((len(content['city_of_image']), 256), bool)
    # Neither the order of the images nor a shuffle of ours must enter.
    scrambled = np.random.default_rng(int(step)).permutation(len(names))
    for split, select in (('train', protocol.train_images), ('test', protocol.test_images)):
        np.testing.assert_array_equal(
            select(int(step), presence, names), content[f'{split}_order__{task}__{step}']
        )
        chosen = select(int(step), presence[scrambled], [names[i] for i in scrambled])
        np.testing.assert_array_equal(scrambled[chosen], content[f'{split}_order__{task}__{step}'])


def final_test_images_trained_on(protocol, names):
    presence = np.zeros((len(names), 256), bool)
    trained = {
        i
        for step in range(len(protocol.steps))
        for i in protocol.train_images(step, presence, names).tolist()
    }
    tested = protocol.test_images(len(protocol.steps) - 1, presence, names).tolist()
    return len(trained.intersection(tested)) / len(tested), trained, set(tested)


@pytest.mark.parametrize('task', ['11-5', '11-1', '1-1'])
def test_the_legacy_split_leaks_and_the_clean_one_does_not(task):
    names = city_images(golden('cityscapes_domain__a.npz'))
    legacy = build_protocol(dict(name=f'cityscapes_domain_{task}', split='legacy'))
    assert final_test_images_trained_on(legacy, names)[0] > 0.5
    clean = build_protocol(dict(name=f'cityscapes_domain_{task}'))
    leaked, trained, tested = final_test_images_trained_on(clean, names)
    assert leaked == 0 and trained | tested == set(range(len(names)))


def test_the_clean_split_of_an_image_depends_on_neither_step_nor_protocol():
    names = city_images(golden('cityscapes_domain__a.npz'))
    presence = np.zeros((len(names), 256), bool)
    first = build_protocol(dict(name='cityscapes_domain_11-5'))
    other = build_protocol(dict(name='cityscapes_domain_1-1'))
    assert set(first.test_images(2, presence, names)) == set(other.test_images(20, presence, names))
    before = set(first.test_images(0, presence, names))
    assert before < set(first.test_images(1, presence, names))
