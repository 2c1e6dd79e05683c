"""A file of weights that would run code when unpickled, in every place where one is read."""

import json
import shutil

import pytest
import torch
from test_evaluate_again import Arguments

from mmseg_cil.engine import commands
from mmseg_cil.engine.preflight.pretrained import check_pretrained
from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.record.resume_state import can_resume, step_identity
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.methods.dfgr.generated_replay import GeneratedReplay
from mmseg_cil.methods.rcil.parallel_branches import _load_seconds
from mmseg_cil.methods.vdfd.files import load_gradients
from mmseg_cil.models.teacher import load_packed_state, load_plain_state
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import at, killed
from mmseg_cil.utils.atomic import write_text
from mmseg_cil.utils.weights_files import NotDataError, weights_as_data

INIT = 'model.backbone.init_cfg'
TOLD = r"posix\.mkdir'.*as data"


@pytest.mark.parametrize(
    ('option', 'changes'),
    [
        ('load_from', {'load_from': 'FILE'}),
        (f'{INIT}.checkpoint', {INIT: dict(type='Pretrained', checkpoint='FILE')}),
        (f'{INIT}.0.checkpoint', {INIT: [dict(type='Pretrained', checkpoint='FILE', prefix='a.')]}),
        ('model.pretrained', {'model.pretrained': 'FILE'}),
        ('model.backbone.pretrained', {'model.backbone.pretrained': 'FILE'}),
        (
            'model.init_cfg.checkpoint',
            {'model.init_cfg': dict(type='Pretrained', checkpoint='FILE')},
        ),
        (
            'model.decode_head.init_cfg.checkpoint',
            {'model.decode_head.init_cfg': dict(type='mmengine.PretrainedInit', checkpoint='FILE')},
        ),
        ('model.backbone.checkpoint_path', {'model.backbone.checkpoint_path': 'FILE'}),
        (
            'method.sub_steps.0.generator.init_cfg.checkpoint',
            {
                'method.sub_steps': [
                    dict(generator=dict(init_cfg=dict(type='Pretrained', checkpoint='FILE')))
                ]
            },
        ),
    ],
)
@pytest.mark.parametrize('legacy', [False, True])
def test_weights_to_begin_with(data_root, tmp_path, poison, option, changes, legacy):
    path = poison(tmp_path / 'a.pth', legacy=legacy, state_dict={}, meta={})
    text = json.dumps(changes).replace('FILE', path)
    cfg = tiny_config(data_root, **json.loads(text))
    with pytest.raises(InputError, match=f'^{option}: .*{TOLD}'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk').exists()


@pytest.mark.parametrize(
    'backbone',
    [
        dict(
            type='SwinTransformer',
            embed_dims=8,
            depths=(1, 1),
            num_heads=(1, 1),
            strides=(4, 2),
            out_indices=(0, 1),
        ),
        dict(
            type='MixVisionTransformer',
            embed_dims=8,
            num_stages=1,
            num_layers=[1],
            num_heads=[1],
            patch_sizes=[7],
            strides=[4],
            sr_ratios=[1],
            out_indices=(0,),
        ),
        dict(
            type='VisionTransformer',
            img_size=16,
            patch_size=8,
            embed_dims=8,
            num_layers=1,
            num_heads=1,
            out_indices=0,
        ),
        dict(
            type='BEiT',
            img_size=16,
            patch_size=8,
            embed_dims=8,
            num_layers=1,
            num_heads=1,
            out_indices=0,
        ),
        dict(
            type='MAE',
            img_size=16,
            patch_size=8,
            embed_dims=8,
            num_layers=1,
            num_heads=1,
            out_indices=0,
        ),
        dict(type='PIDNet', channels=4, ppm_channels=4, num_stem_blocks=1, num_branch_blocks=1),
    ],
    ids=lambda backbone: backbone['type'],
)
def test_backbones_that_read_their_weights_themselves(tmp_path, poison, backbone):
    path = poison(tmp_path / 'a.pth', state_dict={})
    network = MODELS.build(dict(backbone, init_cfg=dict(type='Pretrained', checkpoint=path)))
    with weights_as_data(), pytest.raises(NotDataError, match=TOLD):
        network.init_weights()


def test_a_file_that_was_fetched_before(data_root, tmp_path, poison, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    poison(tmp_path / 'hub/checkpoints/x-01234567.pth')
    address = 'https://nowhere.invalid/x-01234567.pth'
    cfg = tiny_config(data_root, **{'model.pretrained': address})
    with pytest.raises(InputError, match=f'model.pretrained: {address} .*{TOLD}'):
        check_pretrained(cfg)


def test_what_steps_leave_to_each_other(tmp_path, poison):
    path = tmp_path / 'a.pth'
    poison(path, state_dict={}, format=1)
    generator = dict(
        type='LayoutGenerator',
        num_classes=2,
        size=(16, 16),
        mean=[0.0] * 3,
        std=[1.0] * 3,
        noise_size=4,
        channels=8,
    )
    readers = {
        'checkpoint': lambda: load_plain_state(path, 2),
        'snapshots': lambda: load_packed_state(path, 0, 2),
        'gradients': lambda: load_gradients(path),
        'branches': lambda: _load_seconds({}, path),
        'generator': lambda: GeneratedReplay(str(path), generator, has_background=True).load(),
    }
    for name, read in readers.items():
        with pytest.raises(InputError, match=TOLD):
            pytest.fail(f'{name}: {read()}', pytrace=False)
    poison(tmp_path / RESUME_NAME)
    with pytest.raises(InputError, match=r"posix\.mkdir'.*as data.*Delete that file"):
        can_resume(tmp_path, step_identity(0, 3, {}))


@pytest.fixture(scope='module')
def one_step(data_root, tmp_path_factory):
    """A walk with step 0 done and step 1 killed in its third iteration."""
    work_dir = tmp_path_factory.mktemp('one') / 'walk'
    cfg = tiny_config(data_root)
    with killed(at(1, 3)):
        WalkRunner(cfg, work_dir, steps='0-1').run()
    write_text(work_dir / 'walk_config.py', cfg.pretty_text)
    return work_dir


def test_a_received_work_directory(data_root, tmp_path, one_step, poison):
    work_dir = shutil.copytree(one_step, tmp_path / 'walk')
    cfg = tiny_config(data_root)
    state = torch.load(work_dir / 'step_01' / RESUME_NAME, weights_only=True)
    poison(work_dir / 'step_01' / RESUME_NAME, **state)
    with pytest.raises(InputError, match=r'posix\.mkdir'):
        WalkRunner(cfg, work_dir, resume=True).run()
    # A journal can be forged with the checkpoint.
    content = torch.load(work_dir / 'step_00/checkpoint.pth', weights_only=True)
    poison(work_dir / 'step_00/checkpoint.pth', **content)
    journal = json.loads((work_dir / 'journal.json').read_text())
    journal['steps'][0]['checkpoint_sha256'] = file_hash(work_dir / 'step_00/checkpoint.pth')
    (work_dir / 'journal.json').write_text(json.dumps(journal))
    (work_dir / 'step_01' / RESUME_NAME).unlink()
    with pytest.raises(InputError, match=r'checkpoint\.pth .*posix\.mkdir'):
        WalkRunner(cfg, work_dir, resume=True).run()
    with pytest.raises(InputError, match=r'checkpoint\.pth .*posix\.mkdir'):
        commands.test(Arguments(work_dir))
    with pytest.raises(InputError, match=r'checkpoint\.pth .*posix\.mkdir'):
        WalkRunner(cfg, tmp_path / 'other', start_from=str(work_dir)).run()


def test_a_state_in_training_needs_no_types_but_pytorchs(one_step):
    state = torch.load(one_step / 'step_01' / RESUME_NAME, weights_only=True)
    assert state['meta']['iter'] == 2 and state['optimizer'] and state['message_hub']
