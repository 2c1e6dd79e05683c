import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.utils.finite import named, not_finite, require_finite


def test_what_is_not_finite_is_named():
    inf, nan = float('inf'), float('nan')
    tensors = {
        'fine': torch.randn(3),
        'empty': torch.zeros(0),
        'counts': torch.tensor([2**62]),
        'huge': torch.tensor([3e38, -3e38]),
        'words': 'nan',
        'nothing': None,
        'nan': torch.tensor([0.0, nan]),
        'half': torch.tensor([inf], dtype=torch.float16),
        'infinite': torch.tensor([0.0, inf]),
        'only': torch.tensor([-inf]),
        'complex': torch.tensor([complex(0, nan)]),
        # Attention adds such a mask; a weight of -1 beside it makes it none.
        'mask': torch.tensor([[0.0, -inf], [0.0, 0.0]]),
        'no mask': torch.tensor([0.0, -inf, -1.0]),
        'mask of nan': torch.tensor([0.0, -inf, nan]),
    }
    assert not_finite(tensors) == [
        'nan',
        'half',
        'infinite',
        'only',
        'complex',
        'no mask',
        'mask of nan',
    ]
    assert not_finite({}) == []


def test_the_message_has_the_first_names_and_the_advice():
    bad = {name: torch.tensor(float('nan')) for name in 'abcde'}
    with pytest.raises(InputError, match=r'^file x: a, b, c and 2 more hold NaN.*\. Do this$'):
        require_finite(bad, 'file x', 'Do this')
    require_finite({'a': torch.zeros(1)}, 'file x', 'Do this')
    assert named('ab') == 'a, b'
