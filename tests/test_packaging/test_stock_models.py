"""The script that walks MMSegmentation's stock configs: what it groups, shrinks and counts."""

import json
import sys

import pytest
import torch

FILES = (
    'danet/danet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
    'ocrnet/ocrnet_hr18_4xb2-160k_cityscapes-512x1024.py',
    'knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py',
    'setr/setr_vit-l_pup_8xb1-80k_cityscapes-768x768.py',
)


@pytest.fixture
def module(benchmark_module):
    return benchmark_module('stock_models')


def test_every_stock_config_is_found(module):
    from stock.catalogue import ROOT, stock_files

    files = stock_files()
    assert len(files) == len(set(files)) > 600
    assert set(FILES) <= set(files) and all((ROOT / file).is_file() for file in files)
    assert not any('_base_' in file for file in files)


def test_a_small_network_is_of_the_same_kind(module):
    from stock.catalogue import kind_of, read
    from stock.shrink import shrunk

    kinds = []
    for file in FILES:
        model = read(file).model.to_dict()
        small = shrunk(model)
        kinds.append(kind_of(model))
        assert kind_of(small) == kinds[-1]
        assert 'pretrained' not in small
        assert small['backbone'].get('init_cfg', {}) != 'Pretrained'
    assert len(set(kinds)) == len(FILES)
    assert kinds[1] == 'CascadeEncoderDecoder | HRNet | - | FCNHead+OCRHead | -'
    assert 'IterativeDecodeHead(FCNHead)' in kinds[2]


@pytest.mark.parametrize('psa_type', [0, 1])
def test_the_plain_operator_of_psanet_is_the_compiled_one(module, psa_type):
    from stock.ops import _Operators

    height, width, rows, columns = 4, 6, 3, 5
    generator = torch.Generator().manual_seed(0)
    attention = torch.randn(2, rows * columns, height, width, generator=generator)
    output = torch.zeros(2, height * width, height, width)
    _Operators.psamask_forward(
        attention,
        output,
        psa_type=psa_type,
        num_=2,
        h_feature=height,
        w_feature=width,
        h_mask=rows,
        w_mask=columns,
        half_h_mask=1,
        half_w_mask=2,
    )
    expected = torch.zeros_like(output)
    for y in range(height):
        for x in range(width):
            for i in range(rows):
                for j in range(columns):
                    down, right = y + i - 1, x + j - 2
                    if 0 <= down < height and 0 <= right < width:
                        value = attention[:, i * columns + j, y, x]
                        if psa_type == 0:
                            expected[:, down * width + right, y, x] = value
                        else:
                            expected[:, y * width + x, down, right] = value
    assert torch.equal(output, expected)


def test_files_count_by_the_worst_of_their_kind_and_their_own(module):
    groups = {'A': ['a', 'b', 'c'], 'B': ['d']}
    results = {
        'A | x': dict(outcome='works'),
        'A | y': dict(outcome='works'),
        'B | x': dict(outcome='works'),
        'B | y': dict(outcome='refused'),
        'A | files': dict(files=dict(b=dict(outcome='fails'), c=dict(outcome='works'))),
    }
    text, failed = module.table(groups, ['x', 'y'], results)
    assert failed == 1
    assert '2 of 4 (50.0 %): works' in text
    assert '1 of 4 (25.0 %): refused' in text and '1 of 4 (25.0 %): fails' in text


@pytest.mark.slow
def test_a_kind_is_walked_and_kept(module, tmp_path, monkeypatch, capsys):
    path = tmp_path / 'results.json'
    arguments = ['stock_models', '--only', FILES[0], '--results', str(path), '--methods', 'mib']
    monkeypatch.setattr(sys, 'argv', arguments)
    assert module.main() == 0
    assert '1 of 1 (100.0 %): works' in capsys.readouterr().out
    kept = json.loads(path.read_text())
    monkeypatch.setattr('stock.walks.forked', None)
    assert module.main() == 0
    assert json.loads(path.read_text()) == kept
