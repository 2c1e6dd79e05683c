"""What a method changes in the network while a step trains, and takes back after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

#: What a change hands on to the next step, in a step's folder.
CHANGE_NAME = 'network_change.pth'


class NetworkChange:
    """The interface, and the change that changes nothing.

    A step begins and ends with a plain MMSegmentation network; what is
    between is the method's affair. The segmentor calls, in this order,
    :meth:`install` when it is built, :meth:`plain_form` around whatever reads
    or initialises plain weights, :meth:`begin` after that, and :meth:`finish`
    when the step has been trained.
    """

    def install(self, model: nn.Module, learnt: bool) -> None:
        """Changes the modules; weights come later.

        Args:
            model: The segmentor, in plain form.
            learnt: An earlier step has been trained.

        Raises:
            InputError: The network has no place for the change.
        """

    @contextmanager
    def plain_form(self, model: nn.Module) -> Iterator[None]:
        """Gives the network its plain modules and names back for a while."""
        yield

    def begin(self, model: nn.Module, kept: Path | None) -> None:
        """Gives the changed network its weights, from the plain ones that it has by now.

        Args:
            model: The segmentor, changed.
            kept: File of the last trained step with what :meth:`finish`
                returned, whether or not it exists. None at the first.

        Raises:
            InputError: The file cannot be read or is of another network.
        """

    def finish(self, model: nn.Module) -> dict[str, Tensor]:
        """Turns the network, in place, into a plain one of the same evaluation output.

        Returns:
            What the next step needs beyond the plain weights, on the CPU.
        """
        return {}


@contextmanager
def plain_weights(model: nn.Module) -> Iterator[None]:
    """Give a segmentor its plain form in the block, in which it takes weights to begin with.

    Args:
        model: The segmentor. One that nothing changes stays as it is.
    """
    change, kept = getattr(model, '_change', None), getattr(model, '_change_file', None)
    if not isinstance(change, NetworkChange):
        yield
        return
    with change.plain_form(model):
        yield
    change.begin(model, kept)
