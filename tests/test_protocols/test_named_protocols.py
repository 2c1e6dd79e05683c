"""The rules of the protocols, in words and in tables."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import NAMED, Policy, build_protocol

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('background', 'a', 'b', 'c', 'd')


def own(**changes):
    return build_protocol(
        dict(
            dict(name='mine', dataset='mine', steps=[['background', 'a', 'b'], ['c'], ['d']]),
            **changes,
        ),
        CLASSES,
    )


def presence_of(*images):
    matrix = np.zeros((len(images), 256), bool)
    for row, ids in enumerate(images):
        matrix[row, list(ids)] = True
    return matrix, [str(i) for i in range(len(images))]


@pytest.mark.parametrize('name', NAMED)
def test_every_named_protocol_brings_each_class_or_city_once(name):
    protocol = build_protocol(dict(name=name))
    brought = [
        label
        for step in protocol.steps
        for label in (step.domains if protocol.kind == 'domain' else step.new)
    ]
    assert len(brought) == len(set(brought))
    assert len(brought) == (21 if protocol.kind == 'domain' else len(protocol.taxonomy.names))
    for step in protocol.steps:
        table = protocol.train_table(step.index)
        assert set(table.tolist()) <= {*range(len(step.seen)), 255}
        assert protocol.class_steps(step.index) == tuple(sorted(protocol.class_steps(step.index)))
    json.dumps(protocol.to_dict())


@pytest.mark.parametrize(
    ('name', 'sizes'),
    [
        ('voc_11-5', [11, 5, 5]),
        ('voc_10-5', [11, 5, 5]),
        ('voc_11-1', [11] + [1] * 10),
        ('voc_1-1', [1] * 21),
        ('voc_15-1', [16] + [1] * 5),
        ('voc_19-1', [20, 1]),
        ('voc_5-3', [6] + [3] * 5),
        ('voc_2-2', [3] + [2] * 9),
        ('voc_joint', [21]),
        ('ade20k_100-50', [101, 50]),
        ('ade20k_100-5', [101] + [5] * 10),
        ('ade20k_50-50', [51, 50, 50]),
        ('cityscapes_13-6', [14, 6]),
        ('voc_16-3', [17, 3, 1]),
    ],
)
def test_sizes(name, sizes):
    assert [len(step.new) for step in build_protocol(dict(name=name)).steps] == sizes


def test_11_5_and_the_customary_10_5_are_one_protocol():
    counted, customary = (build_protocol(dict(name=name)) for name in ('voc_11-5', 'voc_10-5'))
    assert counted.fingerprint() == customary.fingerprint()
    assert counted.spellings() == {'counted': 'voc_11-5', 'foreground': 'voc_10-5'}
    foreground = build_protocol(dict(name='voc_11-5', counting='foreground'))
    assert [len(step.new) for step in foreground.steps] == [12, 5, 4]


def test_1_1_begins_with_the_background_alone_and_trains_nothing_there():
    protocol = build_protocol(dict(name='voc_1-1'))
    assert protocol.steps[0].new == (0,) and not protocol.trains(0) and protocol.trains(1)
    presence, names = presence_of({0, 1}, {0, 5}, {0})
    assert protocol.train_images(0, presence, names).size == 0
    assert protocol.test_images(0, presence, names).tolist() == [0, 1, 2]
    assert protocol.test_images(1, presence, names).tolist() == [0]


def test_settings_select_and_label_as_defined():
    # a and c; c alone; c and the future d; d alone; b alone
    presence, names = presence_of({0, 1, 3}, {0, 3, 255}, {0, 3, 4}, {0, 4}, {0, 2})
    chosen = {
        setting: own(setting=setting).train_images(1, presence, names).tolist()
        for setting in ('overlapped', 'disjoint', 'sequential')
    }
    assert chosen == {'overlapped': [0, 1, 2], 'disjoint': [0, 1], 'sequential': [0, 1]}
    hidden = own().train_table(1)[[0, 1, 2, 3, 4, 255]].tolist()
    assert hidden == [0, 0, 0, 3, 0, 255]
    kept = own(setting='sequential').train_table(1)[[0, 1, 2, 3, 4, 255]].tolist()
    assert kept == [0, 1, 2, 3, 0, 255]
    assert own().old_labels_hidden and not own(setting='sequential').old_labels_hidden


def test_policies_change_what_they_say():
    assert own().test_table(0)[[1, 3, 255]].tolist() == [1, 0, 255]
    assert own(policy=dict(unseen_test='ignore')).test_table(0)[[1, 3]].tolist() == [1, 255]
    assert own(policy=dict(void_train='background')).train_table(0)[255] == 0
    assert own(policy=dict(background_test='ignore')).test_table(0)[0] == 255
    assert Policy.preset('mib').background_in_means is False
    with pytest.raises(InputError, match='nonsense'):
        own(policy=dict(nonsense=1))


def test_a_class_order_permutes_outputs_and_keeps_the_background_first():
    order = ['background', 'd', 'c', 'b', 'a']
    protocol = build_protocol(
        dict(name='mine_3-1', dataset='mine', counting='background', class_order=order), CLASSES
    )
    assert [step.new for step in protocol.steps] == [(0, 4, 3), (2,), (1,)]
    assert protocol.train_table(0)[[0, 1, 2, 3, 4]].tolist() == [0, 0, 0, 2, 1]
    seeded = [
        build_protocol(dict(name='voc_15-1', class_order=dict(seed=seed))) for seed in (3, 3, 4)
    ]
    assert seeded[0].steps == seeded[1].steps != seeded[2].steps
    assert all(variant.steps[0].new[0] == 0 for variant in seeded)


def test_classes_that_no_step_lists_stay_in_the_background():
    protocol = build_protocol(
        dict(
            name='animals',
            dataset='voc',
            steps=[['background', 'cat', 'dog', 'person'], ['horse'], ['cow'], ['sheep']],
        )
    )
    assert [len(step.seen) for step in protocol.steps] == [4, 5, 6, 7]
    table = protocol.train_table(0)
    assert table[8] == 1 and table[12] == 2 and table[15] == 3 and table[1] == 0


def test_ade20k_reads_masks_raw():
    protocol = build_protocol(dict(name='ade20k_100-50'))
    assert protocol.taxonomy.names[0] == 'background' and protocol.taxonomy.mask_ids[1] == 1
    assert protocol.train_table(0)[[0, 1, 100, 101]].tolist() == [0, 1, 100, 0]


def test_cityscapes_by_class_gets_a_background_for_what_is_not_labelled():
    protocol = build_protocol(dict(name='cityscapes_13-6'))
    assert protocol.taxonomy.mask_ids[0] is None
    assert protocol.train_table(0)[[0, 12, 13, 255]].tolist() == [1, 13, 0, 255]
    assert protocol.train_table(1)[[0, 13]].tolist() == [0, 14]


def test_domains_by_pattern_and_by_list(tmp_path):
    (tmp_path / 'night.txt').write_text('x/night_1.png\nnight_2\n')
    cfg = dict(
        name='light',
        dataset='mine',
        domains=[
            dict(name='day', pattern='day_*'),
            dict(name='night', list_file=str(tmp_path / 'night.txt')),
        ],
    )
    protocol = build_protocol(cfg, CLASSES)
    names = ['a/day_1', 'x/night_1', 'day_2', 'b/night_2']
    presence = np.zeros((4, 256), bool)
    assert protocol.image_domains(names).tolist() == [0, 1, 0, 1]
    assert protocol.train_images(1, presence, names).tolist() == [1, 3]
    assert protocol.test_images(1, presence, names).tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="'dusk' is in no domain"):
        protocol.image_domains(['dusk'])
    lax = build_protocol(dict(cfg, strict=False), CLASSES)
    assert lax.image_domains(['dusk']).tolist() == [-1]
    both = dict(cfg, domains=[*cfg['domains'], dict(name='any', pattern='*')])
    with pytest.raises(InputError, match='two domains'):
        build_protocol(both, CLASSES).image_domains(['day_1'])


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(name='vok_15-1'), 'vok_15-1'),
        (dict(name='voc_25-1'), '25'),
        (dict(name='voc_15-0'), '15-0'),
        (dict(name='voc_15-1', setting='overlaped'), 'overlaped'),
        (dict(name='voc_15-1', preset='paper'), 'paper'),
        (dict(name='voc_15-1', speed=3), 'speed'),
        (dict(name='m', dataset='voc', steps=[['background', 'cat'], ['cat']]), "'cat'.*twice"),
        (dict(name='m', dataset='voc', steps=[['background', 'unicorn']]), 'unicorn'),
        (dict(name='m', dataset='voc', steps=[['background', 'cat'], []]), 'adds no class'),
        (dict(name='voc_15-1', class_order=['background', 'cat']), 'class_order'),
    ],
)
def test_wrong_protocols_are_refused_with_the_reason(cfg, message):
    with pytest.raises(InputError, match=message):
        build_protocol(cfg)


def test_no_torch_is_imported():
    script = (
        'import sys, mmseg_cil.protocols; '
        'assert not {"torch", "mmengine", "mmseg"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', script], check=True, cwd=ROOT)


def tool(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / 'tools/protocols.py'), *arguments],
        capture_output=True,
        text=True,
    )


def test_the_tool_prints_steps_and_spellings():
    done = tool('voc_11-1')
    assert done.returncode == 0, done.stderr
    assert 'voc_11-1' in done.stdout and 'voc_10-1' in done.stdout
    rows = [line for line in done.stdout.splitlines() if 'tvmonitor' in line]
    assert rows and rows[-1].split()[0] == '10'
    figures = done.stdout.partition('published: ')[2]
    assert 'not results of this package' in figures and 'RCIL README (CVPR 2022)' in figures


def test_the_tool_refuses_unknown_names():
    done = tool('vok_1-1')
    assert done.returncode == 2 and 'vok_1-1' in done.stderr and 'Traceback' not in done.stderr
