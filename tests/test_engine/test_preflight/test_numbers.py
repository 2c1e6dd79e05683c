"""NaN and infinity are no settings, wherever in a config they stand."""

import numpy as np
import pytest
from mmengine.config import Config, DictAction

from mmseg_cil.engine.config.load import with_options
from mmseg_cil.engine.preflight.numbers import require_finite_settings
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config

NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('optim_wrapper.optimizer.lr', NAN),
        ('optim_wrapper.optimizer.weight_decay', INF),
        ('param_scheduler.0.eta_min', -INF),
        ('model.decode_head.loss_decode.loss_weight', NAN),
        ('model.data_preprocessor.std.1', INF),
        ('method.distillers.0.loss.temperature', INF),
        ('method.distillers.0.loss.loss_weight', np.float32(NAN)),
        ('step_overrides.later.lr', NAN),
        ('step_overrides.0.lr', INF),
        ('default_hooks.checkpoint.max_minutes', INF),
        ('model.decode_head.dropout_ratio', NAN),
        ('train_dataloader.dataset.pipeline.3.prob', NAN),
        ('my_own.deep.3', np.array([1.0, NAN])),
    ],
)
def test_the_dotted_name_is_told(data_root, tmp_path, key, value):
    cfg = tiny_config(data_root).to_dict()
    node = cfg
    *parents, last = key.split('.')
    for name in parents:
        node = (
            node[int(name)]
            if isinstance(node, list)
            else node[0]
            if name == '0' and 0 in node
            else node.setdefault(name, {})
        )
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    with pytest.raises(InputError, match='it must be a finite number') as caught:
        prepare_walk(Config(cfg), tmp_path)
    assert str(caught.value).startswith(f'{key} is ')


@pytest.mark.parametrize('word', ['nan', 'inf', '-inf', 'Infinity', '1e999'])
def test_words_of_the_command_line_that_are_such_numbers(data_root, word):
    cfg = with_options(
        tiny_config(data_root), {'optim_wrapper.optimizer.lr': DictAction._parse_iterable(word)}
    )
    with pytest.raises(InputError, match=r'^optim_wrapper\.optimizer\.lr is '):
        require_finite_settings(cfg)


def test_other_values_pass(data_root):
    require_finite_settings(tiny_config(data_root))
    require_finite_settings(
        dict(
            a=1e308,
            b='nan',
            c=None,
            d=(1, [True]),
            e=np.array(['x']),
            f=np.array([1]),
            g=2**2000,
            # The largest element, and no number to compute with.
            optim_wrapper=dict(clip_grad=dict(max_norm=1.0, norm_type=INF)),
        )
    )
    with pytest.raises(InputError, match='norm_type is nan'):
        require_finite_settings(dict(clip_grad=dict(norm_type=NAN)))
