"""Weights that a walk begins with are those of its network, or it does not begin."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.preflight.weights_fit import check_weights_fit
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.tiny import tiny_config, tiny_model, weights

INIT = 'model.backbone.init_cfg'


@pytest.fixture(autouse=True)
def our_registries():
    init_default_scope('mmseg_cil')


def state(num_classes=3, **backbone):
    """The weights of the tiny network, in MMSegmentation's form."""
    torch.manual_seed(1)
    model = copy.deepcopy(tiny_model())
    model['backbone'].update(backbone)
    network = MODELS.build(plain_model_config(model, num_classes))
    network.init_weights()
    return dict(network.state_dict())


def backbone_state(**backbone):
    return {
        key.removeprefix('backbone.'): value
        for key, value in state(**backbone).items()
        if key.startswith('backbone.')
    }


def save(path, content, **meta):
    torch.save({'state_dict': content, 'meta': meta}, path)
    return str(path)


def check(data_root, tmp_path, **changes):
    check_weights_fit(prepare_walk(tiny_config(data_root, **changes), tmp_path / 'walk'))


def test_all_that_fits_is_not_spoken_of(data_root, tmp_path, capsys):
    path = save(tmp_path / 'a.pth', state())
    walk = prepare_walk(tiny_config(data_root, load_from=path), tmp_path / 'walk')
    before = torch.get_rng_state()
    check_weights_fit(walk)
    assert torch.equal(before, torch.get_rng_state())
    check(
        data_root,
        tmp_path,
        **{INIT: dict(type='Pretrained', checkpoint=save(tmp_path / 'b.pth', backbone_state()))},
    )
    check(
        data_root, tmp_path, **{INIT: dict(type='Pretrained', checkpoint=path, prefix='backbone.')}
    )
    assert 'note' not in capsys.readouterr().out


def test_classifiers_of_other_classes_begin_anew_and_it_is_said(data_root, tmp_path, capsys):
    check(data_root, tmp_path, load_from=save(tmp_path / 'a.pth', state(num_classes=21)))
    assert (
        'note: load_from: the classifiers begin anew, for their rows are of other classes: '
        'decode_head.conv_seg.weight ((21, 8, 1, 1) in the file, (3, 8, 1, 1) here), '
        'auxiliary_head.conv_seg.weight'
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    'meta',
    [{'dataset_meta': {'classes': ('wall', 'sky', 'car')}}, {'CLASSES': ['wall', 'sky', 'car']}],
)
def test_as_many_rows_of_other_classes_are_told(data_root, tmp_path, capsys, meta):
    check(data_root, tmp_path, load_from=save(tmp_path / 'a.pth', state(), **meta))
    assert (
        'rows are of wall, sky, car, and those here of background, red, green'
        in capsys.readouterr().out
    )


def without(content, part):
    return {key: value for key, value in content.items() if part not in key}


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        # Another network, by shape, depth, or in all.
        (
            lambda: state(base_channels=8),
            r'fit, and the network has \d+; it lacks backbone\.layer1.*\(\(8, 4, 3, 3\) in the file'
            r', \(4, 4, 3, 3\) here\)',
        ),
        (
            lambda: without(state(), 'layer4'),
            r'lacks backbone\.layer4\.0\.conv1\.weight.*and \d+ more',
        ),
        (lambda: without(state(), 'auxiliary_head'), r'lacks auxiliary_head\.'),
        (lambda: dict(nn.Conv2d(1, 1, 1).state_dict()), r': 0 weights fit'),
        (dict, 'holds no weights by name'),
        # The right one, under other names.
        (backbone_state, r'backbone alone: give it as model\.backbone\.init_cfg=dict\(type='),
        (
            lambda: {f'net.{key}': value for key, value in state().items()},
            r"names begin with 'net\.': save them without",
        ),
    ],
)
def test_load_from_of_another_network_is_refused(data_root, tmp_path, content, told):
    path = save(tmp_path / 'a.pth', content())
    with pytest.raises(
        InputError,
        match=rf'^load_from: .*a\.pth does not fit.*{told}.*'
        'allow_partial_weights=True',
    ):
        WalkRunner(tiny_config(data_root, load_from=path), tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk/journal.json').exists()


def test_weights_under_another_key_are_named(data_root, tmp_path):
    torch.save({'model': state(), 'epoch': 3}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match="weights lie under 'model', not 'state_dict'"):
        check(data_root, tmp_path, load_from=str(tmp_path / 'a.pth'))


def test_names_of_a_distributed_network_and_bare_weights_fit(data_root, tmp_path, capsys):
    torch.save({f'module.{key}': value for key, value in state().items()}, tmp_path / 'a.pth')
    check(data_root, tmp_path, load_from=str(tmp_path / 'a.pth'))
    assert 'note' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('content', 'changes', 'told'),
    [
        (lambda: backbone_state(base_channels=8), {}, r'layer1\.0\.conv1\.weight \(\(8, 4, 3, 3\)'),
        (
            backbone_state,
            {'model.backbone.depth': 34},
            r'fit backbone \(ResNet\), which has \d+; it '
            r'lacks layer1\.2\.conv1\.weight',
        ),
        (backbone_state, {'model.backbone.deep_stem': True}, r'lacks stem\.0\.weight'),
        (backbone_state, {'model.backbone.in_channels': 4}, r'conv1\.weight \(\(4, 3, 7, 7\) in'),
        (state, {}, r"names begin with 'backbone\.': set init_cfg\.prefix='backbone\.'"),
    ],
)
def test_pre_trained_weights_of_another_backbone_are_refused(
    data_root, tmp_path, content, changes, told
):
    path = save(tmp_path / 'a.pth', content())
    changes = {INIT: dict(type='Pretrained', checkpoint=path), **changes}
    with pytest.raises(InputError, match=rf'^{INIT}\.checkpoint: of .*a\.pth \d+ weights .*{told}'):
        check(data_root, tmp_path, **changes)


def test_a_backbone_may_have_norms_of_its_own(data_root, tmp_path, capsys):
    content = {key: value for key, value in backbone_state().items() if 'bn2' not in key}
    check(
        data_root,
        tmp_path,
        **{INIT: dict(type='Pretrained', checkpoint=save(tmp_path / 'a.pth', content))},
    )
    assert 'note' not in capsys.readouterr().out


def test_a_part_that_a_file_has_not_is_told(data_root, tmp_path, capsys):
    content = without(backbone_state(), 'layer3.1.conv2')
    check(
        data_root,
        tmp_path,
        **{INIT: dict(type='Pretrained', checkpoint=save(tmp_path / 'a.pth', content))},
    )
    assert 'it lacks layer3.1.conv2.weight.' in capsys.readouterr().out


def test_a_part_is_taken_where_it_is_allowed(data_root, tmp_path, capsys):
    given = without(state(), 'layer4')
    path = save(tmp_path / 'a.pth', given)
    cfg = tiny_config(data_root, load_from=path, allow_partial_weights=True)
    cfg.step_overrides = {0: dict(max_iters=1, lr=0.0), 'later': dict(max_iters=1)}
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    assert 'note: load_from' in capsys.readouterr().out
    found = weights(tmp_path / 'walk', 0)
    assert torch.equal(
        found['backbone.layer3.0.conv1.weight'], given['backbone.layer3.0.conv1.weight']
    )
    with pytest.raises(InputError, match='allow_partial_weights is 1; use True or False'):
        check(data_root, tmp_path, load_from=path, allow_partial_weights=1)


def test_branches_begin_with_the_weights_of_the_plain_network(data_root, tmp_path):
    given = state()
    cfg = tiny_config(data_root, 'rcil', load_from=save(tmp_path / 'a.pth', given))
    cfg.method.distillers = []
    cfg.step_overrides = {0: dict(max_iters=1, lr=0.0), 'later': dict(max_iters=1)}
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    found = weights(tmp_path / 'walk', 0)
    for key in ('backbone.conv1.weight', 'decode_head.conv_seg.weight'):
        assert torch.equal(found[key], given[key]), key
    # Two equal branches merge into either of them, but for the scale of each filter by its norm.
    merged, first = (
        tensors['backbone.layer2.0.conv1.weight'].flatten(1) for tensors in (found, given)
    )
    assert torch.cosine_similarity(merged, first).min() > 0.9999


def test_backbones_that_read_their_weights_themselves_are_looked_at(data_root, tmp_path, capsys):
    """Transformers rename and resize what they read, and bring parts that no file has."""
    swin = dict(
        type='SwinTransformer',
        embed_dims=8,
        depths=(2, 2),
        num_heads=(1, 1),
        strides=(4, 2),
        out_indices=(0, 1),
        patch_norm=True,
        window_size=4,
    )
    heads = {
        'model.decode_head.in_channels': 16,
        'model.decode_head.in_index': 1,
        'model.auxiliary_head': None,
    }
    cfg = tiny_config(data_root)
    torch.manual_seed(0)
    full = dict(MODELS.build(swin).state_dict())

    def begin(content):
        model = cfg.model.to_dict()
        model['backbone'] = dict(
            swin, init_cfg=dict(type='Pretrained', checkpoint=save(tmp_path / 'a.pth', content))
        )
        changed = tiny_config(data_root, **heads)
        changed.model.backbone = model['backbone']
        check_weights_fit(prepare_walk(changed, tmp_path / 'walk'))

    begin(full)
    begin({key: value for key, value in full.items() if not key.startswith('norm')})
    assert 'note' not in capsys.readouterr().out
    with pytest.raises(InputError, match=r'0 weights fit backbone \(SwinTransformer\)'):
        begin({f'encoder.{key}': value for key, value in full.items()})
