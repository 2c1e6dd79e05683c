"""Making a stock network small without changing its kind."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmseg_cil.models.plain import type_name

#: Height and width of the crops.
CROP = 64
#: LRASPPHead pools squares of 49 x 49 of an eighth of the image.
LARGE_CROP = 416
#: Numbers that are widths of layers, by their key. All of a network are divided alike.
_WIDTHS = (
    'base_channels',
    'c1_channels',
    'c1_in_channels',
    'channels',
    'context_channels',
    'ema_channels',
    'embed_dim',
    'embed_dims',
    'feat_channels',
    'feedforward_channels',
    'ham_channels',
    'in_channels',
    'last_in_channels',
    'layer_channels',
    'light_branch_middle_channels',
    'mid_channels',
    'mla_channels',
    'num_channels',
    'ocr_channels',
    'out_channels',
    'pam_channels',
    'post_process_channels',
    'project_channels',
    'psp_out_channels',
    'spatial_channels',
    'stem_channels',
)
#: By how much the widths of a backbone's network are divided. Others are small as they are.
_FACTORS = {
    'BEiT': 8,
    'BiSeNetV1': 8,
    'HRNet': 2,
    'ICNet': 8,
    'MAE': 8,
    'MSCAN': 8,
    'MixVisionTransformer': 8,
    'PCPVT': 8,
    'ResNeSt': 8,
    'ResNet': 8,
    'ResNetV1c': 8,
    'ResNetV1d': 8,
    'SVT': 8,
    'SwinTransformer': 8,
    'UNet': 8,
    'VisionTransformer': 8,
}
#: Widths that are defaults of a backbone and stand in no config.
_DEFAULT_WIDTHS = {
    'ResNeSt': dict(base_channels=64, stem_channels=128),
    'ResNet': dict(base_channels=64, stem_channels=64),
    'ResNetV1c': dict(base_channels=64, stem_channels=64),
    'ResNetV1d': dict(base_channels=64, stem_channels=64),
    'UNet': dict(base_channels=64),
}


def shrunk(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a small network of the same kind, without pre-trained weights.

    Args:
        model: ``model`` of a stock config.
    """
    result = _without_weights(copy.deepcopy(dict(model)))
    factor = _FACTORS.get(type_name((result.get('backbone') or {}).get('type')), 1)
    for part in ('backbone', 'neck', 'decode_head', 'auxiliary_head'):
        if result.get(part):
            result[part] = _divided(result[part], factor)
    _fit_size(result, crop_for(model))
    return result


def crop_for(model: Mapping[str, Any]) -> int:
    """Return height and width of the crops that a network is trained on."""
    head: Any = model.get('decode_head') or {}
    large = not isinstance(head, (list, tuple)) and type_name(head.get('type')) == 'LRASPPHead'
    return LARGE_CROP if large else CROP


def _without_weights(node: Any) -> Any:
    """Copy a config without the weights that it would load."""
    if isinstance(node, Mapping):
        result = {
            key: _without_weights(value) for key, value in node.items() if key != 'pretrained'
        }
        initial = result.get('init_cfg')
        if isinstance(initial, Mapping) and initial.get('type') == 'Pretrained':
            result['init_cfg'] = None
        return result
    if isinstance(node, (list, tuple)):
        return type(node)(_without_weights(value) for value in node)
    return node


def _divided(node: Any, factor: int) -> Any:
    if isinstance(node, Mapping):
        node = {**_DEFAULT_WIDTHS.get(type_name(node.get('type')), {}), **node}
        result = {
            key: _smaller(value, factor) if key in _WIDTHS else _divided(value, factor)
            for key, value in node.items()
        }
        return _shallow(result) if 'num_modules' in result else result
    if isinstance(node, (list, tuple)):
        return type(node)(_divided(value, factor) for value in node)
    return node


def _shallow(stage: dict[str, Any]) -> dict[str, Any]:
    """One module of one block in each branch of a stage of HRNet."""
    return {**stage, 'num_modules': 1, 'num_blocks': (1,) * len(stage['num_blocks'])}


def _smaller(width: Any, factor: int) -> Any:
    if isinstance(width, (list, tuple)):
        return type(width)(_smaller(value, factor) for value in width)
    # Three colours, and the single output of a binary problem, stay.
    return max(1, width // factor) if isinstance(width, int) and width > 3 else width


def _fit_size(model: dict[str, Any], crop: int) -> None:
    """Fits what depends on the size of the images, in place."""
    preprocessor = model.get('data_preprocessor')
    if preprocessor and preprocessor.get('size') is not None:
        preprocessor['size'] = (crop, crop)
    backbone = model.get('backbone') or {}
    for part in (backbone, backbone.get('backbone_cfg') or {}):
        if isinstance(part.get('depth'), int):
            # The same blocks, fewer of them.
            part['depth'] = min(part['depth'], 50)
    if 'img_size' in backbone:
        backbone['img_size'] = (crop, crop)
    test = model.get('test_cfg') or {}
    if test.get('mode') == 'slide':
        test.update(crop_size=(crop, crop), stride=(crop * 2 // 3, crop * 2 // 3))
    for head in _listed(model.get('decode_head')):
        if 'mask_size' in head:
            # PSANet's masks, for maps of an eighth of the image.
            head['mask_size'] = (crop // 4 - 1, crop // 4 - 1)


def _listed(node: Any) -> list[Any]:
    return list(node) if isinstance(node, (list, tuple)) else [node] if node else []
