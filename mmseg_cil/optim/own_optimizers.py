"""Training parts of a model by optimizers of their own, within one optimizer wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn
from torch.optim import Optimizer

from mmseg_cil.contracts import Distiller, Regulariser
from mmseg_cil.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from mmseg_cil.utils.wrapped import unwrapped

#: The segmentor's lists of modules that may have optimizers of their own.
CHILDREN = ('regularisers', 'distillers')


class JointOptimizer(Optimizer):
    """Several optimizers that step as one.

    MMEngine's ``OptimWrapperDict`` leaves forward, scaling and updates to the
    model, and so excludes gradient accumulation, mixed precision and
    DistributedDataParallel as they are. To a single wrapper this is an optimizer
    like any other: schedules see the groups of all parts, and one state dict
    holds them all.

    Args:
        parts: Optimizers of different parameters.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.defaults = dict(parts[0].defaults)
        for part in self.parts:
            self.state.update(part.state)
        self._share()

    def _share(self) -> None:
        """Makes groups and state of the parts those of the whole, which are then in one place."""
        first = 0
        for part in self.parts:
            count = len(part.param_groups)
            part.param_groups = self.param_groups[first : first + count]
            part.state = self.state
            first += count

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every part."""
        result = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return result


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RegulariserOptimWrapperConstructor:
    """Builds the wrapper that a config asks for, with own optimizers for parts of the method.

    The scheduler puts it in place where a method has regularisers, or distillers
    with an ``optimizer``. Parameters of a regulariser or distiller that has one
    are left out of the network's; a schedule scales the learning rates of both,
    and clipping takes the norm of both together.

    Args:
        optim_wrapper_cfg: As MMEngine's constructors take it; ``network_constructor``
            in it names the one for the network (MMEngine's default if missing).
        paramwise_cfg: For the network.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        config = dict(optim_wrapper_cfg)
        self.network_constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
            dict(
                type=config.pop('network_constructor', 'DefaultOptimWrapperConstructor'),
                optim_wrapper_cfg=config,
                paramwise_cfg=paramwise_cfg,
            )
        )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the wrapper.

        Args:
            model: The segmentor, perhaps in a distributed wrapper.
        """
        bare: Any = unwrapped(model)
        own = [
            part for part in _parts(bare) if part.optimizer and any(True for _ in part.parameters())
        ]
        with _without(bare, own):
            wrapper: OptimWrapper = self.network_constructor(model)
        if own:
            # Constructors that name what is in a group (LayerDecayOptimizerConstructor) want it
            # of all groups: PyTorch refuses an optimizer of groups with and without names.
            named = any('param_names' in group for group in wrapper.optimizer.param_groups)
            wrapper.optimizer = JointOptimizer(
                [wrapper.optimizer, *(_build(part, named) for part in own)]
            )
        return wrapper


def _parts(model: nn.Module) -> Iterator[Distiller | Regulariser]:
    for name, parts in model.named_children():
        for part in parts.children() if name in CHILDREN else ():
            if isinstance(part, (Distiller, Regulariser)):
                yield part


def _build(part: Distiller | Regulariser, named: bool) -> Optimizer:
    names, parameters = zip(*part.named_parameters(), strict=True)
    optimizer: Optimizer = OPTIMIZERS.build(dict(part.optimizer or {}, params=list(parameters)))
    if named:
        optimizer.param_groups[0]['param_names'] = list(names)
    return optimizer


@contextmanager
def _without(model: nn.Module, hidden: Sequence[nn.Module]) -> Iterator[None]:
    """Meanwhile the model does not have those of its parts."""
    if not hidden:
        yield
        return
    former = {child: model._modules[child] for child in CHILDREN if child in model._modules}
    for child, parts in former.items():
        assert isinstance(parts, nn.ModuleList)
        model._modules[child] = nn.ModuleList(
            part for part in parts if not any(part is other for other in hidden)
        )
    try:
        yield
    finally:
        model._modules.update(former)
