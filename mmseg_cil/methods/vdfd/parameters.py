"""The parameters of a segmentor that VDFD regularises."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import is_norm
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.models.heads import decode_heads, main_classifier, main_head

#: Parts of a segmentor that the logits depend on. Auxiliary heads are not among these parts.
PARTS = ('backbone', 'neck', 'decode_head')


def check_parts(parts: Sequence[str] | None) -> None:
    """Refuse parts that are no modules of a segmentor on which the logits depend.

    Args:
        parts: See :func:`regularised_parameters`.

    Raises:
        InputError: ``parts`` is no list of names or is empty, or a name belongs to none of
            :data:`PARTS`.
    """
    if parts is None:
        return
    if isinstance(parts, str) or not parts or not all(isinstance(part, str) for part in parts):
        raise InputError(
            'VDFDHook: parts must be a list of names, such as '
            f"['backbone', 'decode_head'], or None for all; got {parts!r}"
        )
    for part in parts:
        if part.split('.')[0] not in PARTS:
            raise InputError(
                f'VDFDHook: parts has {part!r}; logits depend on {list(PARTS)} and '
                "what is in them ('backbone.layer4') alone"
            )


def classifier_prefix(model: nn.Module) -> str:
    """Return the beginning of the names of the parameters of a segmentor's classifier."""
    return f'{main_classifier(model)[0]}.'


def regularised_parameters(
    model: nn.Module,
    parts: Sequence[str] | None = None,
    classifier: bool = True,
    norms: bool = True,
) -> dict[str, nn.Parameter]:
    """Return the chosen parameters that train, in the model's order.

    Args:
        model: A segmentor.
        parts: Names of the modules whose parameters are chosen. None: all of
            :data:`PARTS` that the segmentor has.
        classifier: Whether the parameters of the decode head's classifier are included.
        norms: Whether scales and shifts of norm layers are included.

    Returns:
        Parameters by name.

    Raises:
        InputError: The segmentor lacks one of ``parts``, or no chosen parameter trains.
    """
    check_parts(parts)
    modules = {name for name, _ in model.named_modules()}
    for part in parts or ():
        if part not in modules:
            near = sorted(
                name
                for name in modules
                if name
                and name.rpartition('.')[0] == part.rpartition('.')[0]
                and name.split('.')[0] in PARTS
            )
            raise InputError(
                f'VDFDHook: parts has {part!r}, which the network does not have'
                + (f'; there is {", ".join(near)}' if near else '')
            )
    prefixes = tuple(f'{part}.' for part in parts or PARTS)
    heads = list(decode_heads(model))
    # Later heads of a cascade only refine the logits, which do not depend on these heads.
    outside = tuple(f'{head}.' for head in heads[heads.index(main_head(model)[0]) + 1 :])
    rows = classifier_prefix(model)
    of_norms = {
        f'{name}.{own}'
        for name, module in model.named_modules()
        if is_norm(module)
        for own, _ in module.named_parameters(recurse=False)
    }
    chosen = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and name.startswith(prefixes)
        and not name.startswith(outside)
        and (classifier or not name.startswith(rows))
        and (norms or name not in of_norms)
    }
    if not chosen:
        raise InputError(
            f'VDFDHook: nothing that trains is left to regularise with '
            f'parts={parts!r}, classifier={classifier} and norms={norms}'
        )
    return chosen
