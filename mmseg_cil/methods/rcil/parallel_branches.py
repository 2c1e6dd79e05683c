"""RCIL's network: parallel branches in residual blocks and ASPP, merged after each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mmcv.cnn import ConvModule
from mmengine.model import kaiming_init
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_cil.contracts import NetworkChange
from mmseg_cil.errors import InputError
from mmseg_cil.methods.rcil.parallel_conv import ParallelConv, merged_alone
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.values import check_choice
from mmseg_cil.utils.weights_files import NotDataError, read_weights

PARTS = ('backbone', 'decode_head')


class Place(NamedTuple):
    """The location of a convolution and its norm: attribute names of their owner."""

    owner: str
    conv: str
    norm: str

    @property
    def name(self) -> str:
        """Path of the convolution."""
        return f'{self.owner}.{self.conv}'


@MODELS.register_module()
class ParallelBranches(NetworkChange):
    """A frozen and a trained branch in place of convolutions of residual blocks and ASPP.

    Places are the 3x3 convolutions of the residual blocks (the second one of a
    bottleneck, both of a basic block) and all parallel convolutions of an ASPP
    (the depthwise and the pointwise ones if the ASPP is depthwise separable),
    each with the batch norm that follows. Stages that are frozen anyway
    (``frozen_stages``) stay as they are.

    The first branch begins as the plain network and is frozen. The second branch
    continues the second branch of the last step, as in the official code. If the last
    step left no second branch (because another method trained that step, for example),
    the second branch begins as a copy of the first. At the first step that trains, there
    is no old knowledge to keep: both branches learn. The branches begin equal in the
    backbone and with different random weights in the ASPP, as in the official code.

    Source: Zhang et al., "Representation Compensation Networks for Continual
    Semantic Segmentation", CVPR 2022, section 3.2; zhangchbin/RCIL ``run.py``,
    ``convert_model``, and ``segmentation_module.py``, ``make_model``. The official
    code has bottlenecks and an ASPP of plain convolutions only; basic blocks
    and separable convolutions are our extension.

    Args:
        parts: The parts that branch, among 'backbone' and 'decode_head'.
        first_step: Branch at the first step too, as in the official code. If False, the
            first step trains the plain network.
        inherit: If False, the second branch always begins as a copy of the first, so
            that a step begins with the function that the last step ended with.
        eps_again: Epsilon in the merge of a first branch that is itself the result of a merge.
            1e-5 merges as the official code does: ``convert_model`` sets eps 0 for the training
            of this branch, but the merge loads the weights into a network with eps 1e-5 and
            InPlace-ABN's |weight| + eps. 0 merges the function that was trained.
        draws: 'iteration': all processes draw the same shares of the branches, so that any number
            of them trains the same network. 'process': each draws its own, as in the official
            code.

    Raises:
        InputError: ``parts`` or ``draws`` are unknown, or ``eps_again`` is no small number.
    """

    def __init__(
        self,
        parts: Sequence[str] = PARTS,
        first_step: bool = True,
        inherit: bool = True,
        eps_again: float = 0.0,
        draws: str = 'iteration',
    ) -> None:
        if not parts or not set(parts) <= set(PARTS):
            raise InputError(f'ParallelBranches: parts must be among {PARTS}, got {parts!r}')
        self.parts = tuple(parts)
        self.first_step = first_step
        self.inherit = inherit
        if not 0 <= eps_again < 0.1:
            raise InputError(
                f'ParallelBranches: eps_again is that of a norm, 0 or 1e-5, not {eps_again!r}'
            )
        self.eps_again = eps_again
        check_choice(self, 'draws', draws, ('iteration', 'process'))
        self.draws = draws
        self.places: tuple[Place, ...] = ()
        self._learnt = False
        #: Epsilons of the norms of the branches that :meth:`finish` has merged.
        self._merged: dict[Place, float] = {}

    def install(self, model: nn.Module, learnt: bool) -> None:
        """Put two branches in every place that the class docstring lists.

        Raises:
            InputError: The network has no place for branches.
        """
        places = tuple(find_places(model, self.parts))
        if not places:
            raise InputError(
                f'ParallelBranches: {" and ".join(self.parts)} have no 3x3 convolution with batch '
                'norm in a residual block and no ASPP that could branch: use a ResNet-like '
                'backbone (not wholly frozen) or an ASPPHead, or another method'
            )
        self._learnt = learnt
        if not learnt and not self.first_step:
            return
        self.places = places
        for number, place in enumerate(places):
            owner = model.get_submodule(place.owner)
            branches = ParallelConv(
                getattr(owner, place.conv),
                getattr(owner, place.norm),
                frozen=learnt,
                number=number if self.draws == 'iteration' else None,
            )
            _put(owner, place, branches, nn.Identity())

    @contextmanager
    def plain_form(self, model: nn.Module) -> Iterator[None]:
        """Put the first branches at their places in the plain network, for a while."""
        branched = self._branched(model)
        for place, branches in branched.items():
            _put(model.get_submodule(place.owner), place, branches.first.conv, branches.first.norm)
        try:
            yield
        finally:
            for place, branches in branched.items():
                _put(model.get_submodule(place.owner), place, branches, nn.Identity())

    def begin(self, model: nn.Module, kept: Path | None) -> None:
        """Give the second branches their initial weights."""
        branched = self._branched(model)
        for place, branches in branched.items():
            branches.second.load_state_dict(branches.first.state_dict())
            if not self._learnt and place.owner.startswith('decode_head'):
                self._begin_anew(model, branches.second.conv)
        if branched and self.inherit and kept is not None and kept.is_file():
            _load_seconds(branched, kept)

    @staticmethod
    def _begin_anew(model: Any, conv: nn.Conv2d) -> None:
        """Initialise a convolution of the head as the head initialises its own convolutions."""
        if hasattr(model.decode_head, 'init_conv'):
            model.decode_head.init_conv(conv)
        else:  # as its owner, a ConvModule, does
            kaiming_init(conv, a=0, nonlinearity='relu')

    def finish(self, model: nn.Module) -> dict[str, Tensor]:
        """Merge the branches into the plain network and return the second branches' weights."""
        seconds: dict[str, Tensor] = {}
        for place, branches in self._branched(model).items():
            seconds.update(
                {
                    f'{place.name}.{key}': value.detach().cpu().clone()
                    for key, value in branches.second.state_dict().items()
                }
            )
            branches.merge(self.eps_again)
            self._merged[place] = branches.first.norm.eps
            _put(model.get_submodule(place.owner), place, branches.first.conv, branches.first.norm)
        self.places = ()
        return seconds

    def in_finished_form(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fold norms into convolutions where branches were merged."""
        result = dict(state)
        for place, eps in self._merged.items():
            result.update(merged_alone(state, place.name, f'{place.owner}.{place.norm}', eps))
        return result

    def _branched(self, model: nn.Module) -> dict[Place, Any]:
        return {place: model.get_submodule(place.name) for place in self.places}


def _put(owner: nn.Module, place: Place, conv: nn.Module, norm: nn.Module) -> None:
    setattr(owner, place.conv, conv)
    setattr(owner, place.norm, norm)


def _load_seconds(branched: dict[Place, Any], path: Path) -> None:
    try:
        state = read_weights(path)
        if bad := not_finite(state):
            raise ValueError(f'{named(bad)} hold values that are not finite')
        for place, branches in branched.items():
            own = branches.second.state_dict()
            branches.second.load_state_dict({key: state[f'{place.name}.{key}'] for key in own})
    except NotDataError:
        raise
    except Exception as error:
        raise InputError(
            f'the branches in {path} cannot be read or are of another network ({error}): remove '
            'the file to begin with copies, or run that step again'
        ) from error


def find_places(model: nn.Module, parts: Sequence[str] = PARTS) -> Iterator[Place]:
    """Yield the places of a network that can branch; see :class:`ParallelBranches`."""
    backbone: Any = getattr(model, 'backbone', None)
    if 'backbone' in parts:
        for stage in getattr(backbone, 'res_layers', ()):
            for index, block in enumerate(getattr(backbone, stage).children()):
                yield from _places_of_block(block, f'backbone.{stage}.{index}')
    aspp = getattr(getattr(model, 'decode_head', None), 'aspp_modules', None)
    if 'decode_head' in parts and aspp is not None:
        for name, module in aspp.named_modules(prefix='decode_head.aspp_modules'):
            if (
                isinstance(module, ConvModule)
                and module.order[:2] == ('conv', 'norm')
                and _can_branch(module.conv, module.norm)
            ):
                yield Place(name, 'conv', module.norm_name)


def _places_of_block(block: nn.Module, path: str) -> Iterator[Place]:
    for number in (1, 2, 3):
        norm_name = getattr(block, f'norm{number}_name', None)
        conv = getattr(block, f'conv{number}', None)
        if (
            norm_name
            and getattr(conv, 'kernel_size', None) == (3, 3)
            and _can_branch(conv, getattr(block, norm_name))
        ):
            yield Place(path, f'conv{number}', norm_name)


def _can_branch(conv: Any, norm: Any) -> bool:
    """Return whether a trained plain convolution has a batch norm that can be folded into it."""
    # Subclasses may compute something else from their weights.
    plain = (
        isinstance(conv, nn.Conv2d)
        and type(conv).__name__ == 'Conv2d'
        and conv.padding_mode == 'zeros'
        and conv.weight.requires_grad
    )
    return plain and isinstance(norm, _BatchNorm) and norm.affine and norm.running_mean is not None
