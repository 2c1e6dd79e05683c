"""Separate optimizers for parts of a model, within one optimizer wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn
from torch.optim import Optimizer

from mmseg_cil.contracts import Distiller, Regulariser
from mmseg_cil.optim.rates import scale_rates
from mmseg_cil.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from mmseg_cil.utils.wrapped import unwrapped

#: The segmentor's lists of modules that may have optimizers of their own.
CHILDREN = ('regularisers', 'distillers')


class JointOptimizer(Optimizer):
    """Several optimizers that step as one.

    MMEngine's ``OptimWrapperDict`` leaves forward, scaling and updates to the
    model, and thus excludes gradient accumulation, mixed precision and
    DistributedDataParallel as they are. A single wrapper can use a joint optimizer
    like any other optimizer: schedules see the groups of all parts, and one state dict
    holds the states of all parts.

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
        """Let the parts use groups and state of the joint optimizer, the only copy of both."""
        first = 0
        for part in self.parts:
            count = len(part.param_groups)
            part.param_groups = self.param_groups[first : first + count]
            part.state = self.state
            first += count

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that :meth:`state_dict` returned."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step with every part."""
        result = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return result


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RegulariserOptimWrapperConstructor:
    """Builds a config's optimizer wrapper, with separate optimizers for parts of the method.

    The scheduler uses this constructor if a method has regularisers, distillers with an
    ``optimizer``, or ``freezing.rates``, which multiply learning rates of the network. Parameters
    of a regulariser or distiller with an ``optimizer`` are left out of the network's optimizer; a
    schedule scales the learning rates of both optimizers, and clipping takes the norm of the
    gradients of both together.

    Args:
        optim_wrapper_cfg: As for MMEngine's constructors; its key ``network_constructor``
            names the constructor for the network (MMEngine's default if missing).
        paramwise_cfg: Parameter-wise options for the network.
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
        """Build the wrapper.

        Args:
            model: The segmentor, perhaps in a distributed wrapper.
        """
        bare: Any = unwrapped(model)
        own = [
            part for part in _parts(bare) if part.optimizer and any(True for _ in part.parameters())
        ]
        with _without(bare, own):
            wrapper: OptimWrapper = self.network_constructor(model)
        rates = getattr(bare, 'rates', {})
        if rates:
            scale_rates(wrapper.optimizer, bare.named_parameters(), rates)
        if own:
            # Some constructors name the parameters of a group (LayerDecayOptimizerConstructor).
            # Then all groups need names: PyTorch refuses a mixture of groups with and without.
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
    """Remove parts from the model for the duration of the block."""
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
