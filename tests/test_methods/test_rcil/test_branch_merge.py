"""Arithmetic of parallel branches: the official numbers, and convolutions with norms."""

import pytest
import torch
from golden_cases import deviation, load
from torch.nn import functional

from mmseg_cil.methods.rcil.merge import Norm, as_norm, drop_shares, fold_norm, mix


def official_norm(case, number, part=slice(None)):
    """InPlace-ABN scales by |weight| + eps."""
    scale, shift, mean, var = (
        case[f'bn{number}_{key}'][part] for key in ('gamma', 'beta', 'mean', 'var')
    )
    eps = case[f'bn{number}_eps']
    return Norm(scale.abs() + eps, shift, mean, var, eps)


@pytest.fixture(params=['__first', '__second_step'])
def case(request):
    return load(f'rc_merge{request.param}')


def branches(case):
    return (
        fold_norm(case['conv1_weight'], case['conv1_bias'], official_norm(case, 1)),
        fold_norm(case['conv2_weight'], None, official_norm(case, 2)),
    )


def convolve(case, branch):
    return functional.conv2d(
        case['x'],
        *branch,
        stride=case['stride'],
        padding=case['dilation'],
        dilation=case['dilation'],
    )


def test_branches_and_their_halves_are_the_official_ones(case):
    for number, (kernel, bias) in enumerate(branches(case), start=1):
        assert deviation(kernel / 2, case[f'kernel{number}']) < 2e-6
        assert deviation(bias / 2, case[f'bias{number}']) < 2e-6
        assert deviation(convolve(case, (kernel, bias)), case[f'branch{number}_out']) < 2e-6


def test_the_merged_convolution_is_the_official_one(case):
    kernel, bias = mix(*branches(case), 0.5)
    assert deviation(kernel, case['merged_weight']) < 2e-6
    assert deviation(bias, case['merged_bias']) < 2e-6
    assert deviation(convolve(case, (kernel, bias)), case['eval_out']) < 2e-6


def test_dropped_paths_are_the_official_ones(case):
    share = drop_shares(case['drop_r'].flatten())
    expected = case['drop_out']
    outputs = [convolve(case, branch) for branch in branches(case)]
    summed = torch.lerp(outputs[1], outputs[0], share[:, None, None])
    assert deviation(summed, expected) < 2e-6
    # All of it is linear, so mixing kernels is the same as mixing outputs.
    assert deviation(convolve(case, mix(*branches(case), share)), expected) < 2e-6


def test_the_next_step_averages_the_merged_convolution_with_the_second_branch(case):
    merged = mix(*branches(case), 0.5)
    after = convolve(case, mix(merged, branches(case)[1], 0.5))
    assert deviation(after, case['eval_out_after_conversion']) < 2e-6


def test_an_aspp_merges_branch_by_branch():
    case = load('rc_merge_aspp__a')
    outputs = []
    for place, dilation in enumerate((1, 6, 12, 18)):
        part = slice(256 * place, 256 * (place + 1))
        folded = [
            fold_norm(case[f'conv{number}_{place}_weight'], None, official_norm(case, number, part))
            for number in (1, 2)
        ]
        kernel, bias = mix(folded[0], folded[1], 0.5)
        assert deviation(kernel, case[f'merged_weight_{place}']) < 2e-6
        assert deviation(bias, case[f'merged_bias_{place}']) < 2e-6
        outputs.append(
            functional.conv2d(
                case['x'], kernel, bias, dilation=dilation, padding=dilation if place else 0
            )
        )
    activated = functional.leaky_relu(torch.cat(outputs, dim=1), 0.01)
    assert deviation(activated, case['eval_out_leaky']) < 2e-6


def test_shares_of_the_branches():
    draws = torch.tensor([0.0, 0.329, 0.331, 0.659, 0.661, 0.999])
    assert drop_shares(draws).tolist() == [1.0, 1.0, 0.0, 0.0, 0.5, 0.5]
    torch.manual_seed(0)
    shares = drop_shares(torch.rand(100_000))
    counts = [float((shares == share).float().mean()) for share in (1.0, 0.0, 0.5)]
    assert counts == pytest.approx([0.33, 0.33, 0.34], abs=0.005)


def random_norm(seed, channels=6):
    generator = torch.Generator().manual_seed(seed)
    scale, shift, mean = torch.randn(3, channels, generator=generator, dtype=torch.float64)
    var = 0.5 + torch.rand(channels, generator=generator, dtype=torch.float64)
    return Norm(scale, shift, mean, var, 1e-5)


def test_a_norm_holds_the_bias():
    norms = random_norm(0), random_norm(1)
    weights = torch.randn(2, 6, 3, 3, 3, dtype=torch.float64)
    folded = [fold_norm(weight, None, norm) for weight, norm in zip(weights, norms, strict=True)]
    kernel, bias = mix(folded[0], folded[1], 0.5)
    norm = as_norm(bias, *norms, eps=1e-5)
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    plain = functional.batch_norm(
        functional.conv2d(images, kernel), norm.mean, norm.var, norm.scale, norm.shift, eps=norm.eps
    )
    torch.testing.assert_close(plain, functional.conv2d(images, kernel, bias))


def test_equal_branches_give_the_norm_that_statistics_of_the_data_would():
    torch.manual_seed(0)
    images = torch.randn(64, 3, 12, 12, dtype=torch.float64)
    weight = torch.randn(6, 3, 3, 3, dtype=torch.float64)
    outputs = functional.conv2d(images, weight)
    norm = random_norm(3)._replace(
        mean=outputs.mean((0, 2, 3)), var=outputs.var((0, 2, 3), correction=0)
    )
    kernel, bias = fold_norm(weight, None, norm)
    merged = as_norm(bias, norm, norm, eps=1e-5)
    outputs = functional.conv2d(images, kernel)
    torch.testing.assert_close(merged.mean, outputs.mean((0, 2, 3)))
    torch.testing.assert_close(
        merged.var, outputs.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-8
    )
