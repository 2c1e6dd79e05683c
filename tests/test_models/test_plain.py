import copy
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmseg_cil.models.plain import map_heads, plain_model_config, plain_state_dict
from mmseg_cil.testing.networks import UNKD, base_step, batch, network, next_step

#: Loads what a step leaves behind as a user of MMSegmentation alone would.
LOADER = """
import sys
import torch
from mmseg.apis import init_model
for folder in sys.argv[1:]:
    model = init_model(folder + '/config.py', folder + '/checkpoint.pth', device='cpu')
    images = torch.load(folder + '/images.pth')
    with torch.no_grad():
        torch.save(model(images), folder + '/logits.pth')
    assert type(model).__name__ == 'EncoderDecoder'
    assert not any('Unbiased' in type(module).__name__ for module in model.modules())
ours = [name for name in sys.modules if name.startswith('mmseg_cil')]
assert not ours, ours
"""


@pytest.mark.walk
@pytest.mark.filterwarnings('ignore')
def test_mmsegmentation_loads_a_step_without_us(tmp_path):
    folders, expected = [], []
    for head, auxiliary in (('ASPPHead', 'list'), ('SegformerHead', 'none')):
        folder = tmp_path / head
        folder.mkdir()
        config, images = network(head, auxiliary), batch(5)[0]
        base_step(config, folder / 'base.pth')
        model = next_step(config, folder / 'base.pth', classifier_init='balanced').eval()
        # The user's config, with what the scheduler adds at a step.
        config.update(
            type='IncrementalEncoderDecoder',
            step=dict(index=1),
            distillers=[UNKD],
            classifier_init='balanced',
            previous=None,
            teacher=None,
        )
        config['decode_head']['norm_cfg'] = dict(type='SyncBN', requires_grad=True)
        plain = Config(dict(default_scope='mmseg', model=plain_model_config(config, 5)))
        plain.dump(folder / 'config.py')
        torch.save(
            dict(
                meta=dict(dataset_meta=dict(classes=list('abcde'))),
                state_dict=plain_state_dict(model.state_dict()),
            ),
            folder / 'checkpoint.pth',
        )
        torch.save(images, folder / 'images.pth')
        with torch.no_grad():
            expected.append(model(images))
        folders.append(str(folder))
    done = subprocess.run(
        [sys.executable, '-c', LOADER, *folders],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr
    assert 'unexpected key' not in done.stdout + done.stderr
    assert 'missing key' not in done.stdout + done.stderr
    for folder, logits in zip(folders, expected, strict=True):
        torch.testing.assert_close(torch.load(f'{folder}/logits.pth'), logits)


def test_the_plain_config_is_as_a_user_would_write_it():
    config = network(auxiliary='list')
    config.update(
        type='IncrementalEncoderDecoder',
        step={},
        previous=None,
        teacher=None,
        distillers=[],
        classifier_init='random',
        pretrained='open-mmlab://resnet18',
        init_cfg=dict(type='Pretrained', checkpoint='x'),
    )
    config['backbone'].update(
        init_cfg=dict(type='Pretrained', checkpoint='x'), norm_cfg=dict(type='SyncBN')
    )
    config['decode_head'].update(
        out_channels=19, loss_decode=[dict(type='UnbiasedCrossEntropyLoss')]
    )
    before = copy.deepcopy(config)
    plain = plain_model_config(config, 7)
    assert config == before
    assert plain['type'] == 'EncoderDecoder'
    assert set(plain) == {
        'type',
        'data_preprocessor',
        'backbone',
        'decode_head',
        'auxiliary_head',
        'train_cfg',
        'test_cfg',
    }
    assert plain['backbone']['norm_cfg'] == dict(type='BN')
    assert 'init_cfg' not in plain['backbone']
    heads = [plain['decode_head'], *plain['auxiliary_head']]
    assert [head['num_classes'] for head in heads] == [7, 7, 7]
    assert [head['loss_decode']['loss_weight'] for head in heads] == [1.0, 0.4, 0.4]
    assert all(head['loss_decode']['type'] == 'CrossEntropyLoss' for head in heads)
    assert 'out_channels' not in plain['decode_head']


def test_heads_are_mapped_one_or_many():
    def mark(head):
        return dict(head, seen=True)

    for auxiliary, count in (('none', 0), ('single', 1), ('list', 2)):
        mapped = map_heads(network(auxiliary=auxiliary), mark)
        others = mapped['auxiliary_head'] or []
        others = others if isinstance(others, list) else [others]
        assert len(others) == count
        assert all(head['seen'] for head in [mapped['decode_head'], *others])


def test_the_plain_state_leaves_out_what_only_training_needs():
    state = {
        key: torch.zeros(1)
        for key in (
            'backbone.conv1.weight',
            'neck.x',
            'decode_head.conv_seg.weight',
            'auxiliary_head.0.x',
            'distillers.0.loss.weight',
            'data_preprocessor.mean',
        )
    }
    assert list(plain_state_dict(state)) == list(state)[:4]
