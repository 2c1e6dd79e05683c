"""Which parameters of a segmentor VDFD regularises."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import is_norm
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.models.heads import decode_heads, main_classifier, main_head

#: Parts of a segmentor that the logits depend on: auxiliary heads are not among them.
PARTS = ('backbone', 'neck', 'decode_head')


def check_parts(parts: Sequence[str] | None) -> None:
    """Refuses what cannot be parts of any segmentor that logits depend on.

    Args:
        parts: See :func:`regularised_parameters`.

    Raises:
        InputError: It is no list of names, empty, or a name is of another part.
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
    """What the names of the parameters of a segmentor's classifier begin with."""
    return f'{main_classifier(model)[0]}.'


def regularised_parameters(
    model: nn.Module,
    parts: Sequence[str] | None = None,
    classifier: bool = True,
    norms: bool = True,
) -> dict[str, nn.Parameter]:
    """The parameters that train and are chosen, in the model's order.

    Args:
        model: A segmentor.
        parts: Names of the modules whose parameters are chosen. None: all of
            :data:`PARTS` that the segmentor has.
        classifier: Whether those of the decode head's classifier stay among them.
        norms: Whether scales and shifts of norm layers do.

    Returns:
        Parameters by name.

    Raises:
        InputError: The segmentor has no such part, or nothing that is chosen trains.
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
    # Heads of a cascade that refine the logits: these do not depend on them.
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
