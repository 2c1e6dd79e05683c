"""Weights to begin with: found, or missed by name before anything is built."""

import pytest
import torch

from mmseg_cil.engine.preflight.pretrained import check_pretrained, pretrained_weights
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.processes import free_port
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.utils import weights_files
from mmseg_cil.utils.weights_files import address_of

INIT = 'model.backbone.init_cfg'


def unreachable():
    return f'http://127.0.0.1:{free_port()}/resnet.pth'


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')


def test_every_way_to_name_weights_is_known(data_root):
    cfg = tiny_config(
        data_root,
        **{
            INIT: dict(type='Pretrained', checkpoint='a'),
            'model.pretrained': 'b',
            'load_from': 'c',
            'model.auxiliary_head.init_cfg': [
                dict(type='Constant'),
                dict(type='Pretrained', checkpoint='d'),
            ],
        },
    )
    assert sorted(pretrained_weights(cfg)) == [
        ('load_from', 'c'),
        ('model.auxiliary_head.init_cfg.1.checkpoint', 'd'),
        (f'{INIT}.checkpoint', 'a'),
        ('model.pretrained', 'b'),
    ]
    assert pretrained_weights(tiny_config(data_root)) == []


def test_names_stand_for_addresses():
    for name in ('mmcls://resnet18', 'open-mmlab://resnet50_v1c', 'https://a.b/c.pth'):
        assert address_of(name).startswith('https://') and address_of(name).endswith('.pth')
    # A name that MMEngine has replaced by another.
    assert address_of('openmmlab://resnet50_caffe') == address_of(
        'open-mmlab://detectron/resnet50_caffe'
    )
    assert address_of('my/file.pth') == 'my/file.pth'


@pytest.mark.parametrize(
    ('option', 'source'),
    [
        (f'{INIT}.checkpoint', 'nowhere.pth'),
        (f'{INIT}.checkpoint', 'torchvision://resnet51'),
        ('model.pretrained', 'open-mmlab://nothing'),
        ('load_from', 'nowhere.pth'),
    ],
)
def test_missing_weights_are_told_before_anything_is_built(data_root, tmp_path, option, source):
    changes = {f'{INIT}.type': 'Pretrained'} if option.startswith(INIT) else {}
    cfg = tiny_config(data_root, **changes, **{option: source})
    with pytest.raises(InputError, match=f'{source} \\({option}\\).*{option}=PATH'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk').exists()


def test_without_a_network_the_way_to_a_local_file_is_told(data_root):
    address = unreachable()
    cfg = tiny_config(data_root, **{INIT: dict(type='Pretrained', checkpoint=address)})
    with pytest.raises(InputError, match=f'{address} .*refused.*{INIT}.checkpoint=PATH'):
        check_pretrained(cfg)


def test_an_address_is_asked_without_waiting_for_other_processes(data_root, monkeypatch):
    asked = []
    monkeypatch.setattr(weights_files, 'load_url', lambda url, **options: asked.append(url))
    cfg = tiny_config(data_root, **{'model.pretrained': 'open-mmlab://resnet18_v1c'})
    check_pretrained(cfg)
    assert asked == [address_of('open-mmlab://resnet18_v1c')]


def test_damaged_weights_are_told_by_name(data_root, tmp_path):
    path = tmp_path / 'half.pth'
    torch.save({'state_dict': {}}, path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r'half\.pth'):
        check_pretrained(tiny_config(data_root, load_from=str(path)))


def test_step_0_begins_with_the_weights_given_and_later_steps_do_not_ask(data_root, tmp_path):
    WalkRunner(tiny_config(data_root), tmp_path / 'first', steps='0').run()
    given = tmp_path / 'given.pth'
    (tmp_path / 'first/step_00/checkpoint.pth').rename(given)
    expected = torch.load(given, weights_only=True)['state_dict']
    cfg = tiny_config(data_root, load_from=str(given))
    cfg.step_overrides = {0: dict(max_iters=1, lr=0.0), 'later': dict(max_iters=1)}
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    for key, value in weights(tmp_path / 'walk', 0).items():
        if 'running' not in key and 'num_batches' not in key:
            assert torch.equal(value, expected[key]), key
    given.unlink()
    WalkRunner(cfg, tmp_path / 'walk', resume=True, steps='1').run()


def test_weights_lost_after_the_check_are_told_too(data_root, tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_cil.engine.walk_runner.check_pretrained', lambda cfg: None)
    for changes in (
        {INIT: dict(type='Pretrained', checkpoint='gone.pth')},
        {'load_from': 'gone.pth'},
    ):
        cfg = tiny_config(data_root, **changes)
        with pytest.raises(InputError, match=r'gone\.pth'):
            WalkRunner(cfg, tmp_path / next(iter(changes)), steps='0').run()
