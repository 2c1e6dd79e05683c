"""Tables of 256 entries, from the values in a mask to the labels of a step.

The tables are meant for one indexing operation on a whole mask,
``table[mask]``; losses and metrics leave out the label 255.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from mmseg_cil.protocols.policy import Policy
from mmseg_cil.protocols.taxonomy import IGNORE, Taxonomy

Table = npt.NDArray[np.uint8]


def label_table(
    taxonomy: Taxonomy,
    seen: Sequence[int],
    shown: Collection[int],
    *,
    background: int,
    hidden: int,
    void: int,
    unknown: int,
    unlabelled: int | None = None,
) -> Table:
    """Return a table, given the label of each kind of pixel.

    Args:
        taxonomy: The classes and their mask ids.
        seen: Class ids in the order of the network's outputs.
        shown: The seen class ids whose pixels get their own label.
        background: Label of the true background (class id 0, if there is one).
        hidden: Label of every other class.
        void: Label of void pixels.
        unknown: Label of mask ids that the taxonomy does not have.
        unlabelled: Label of void pixels that nobody labelled; None: the label ``void``.

    Returns:
        uint8 (256,): label by mask id.
    """
    table = np.full(256, unknown, np.uint8)
    table[list(taxonomy.void_ids)] = void
    if unlabelled is not None:
        table[list(taxonomy.unlabelled)] = unlabelled
    position = {c: i for i, c in enumerate(seen)}
    for mask_id, class_id in taxonomy.class_of_mask_id().items():
        if taxonomy.has_background and class_id == 0:
            table[mask_id] = background
        else:
            table[mask_id] = position[class_id] if class_id in shown else hidden
    return table


def table_for_training(
    taxonomy: Taxonomy,
    policy: Policy,
    seen: Sequence[int],
    labelled: Collection[int],
    old_hidden: bool = False,
) -> Table:
    """Return the training labels, in which classes that are not labelled are background.

    The table equals the label maps of MiB and PLOP (``dataset/voc.py``, ``ade.py``)
    under the presets of these names. Without a background there is no label for
    classes that are not labelled: their pixels are ignored, or have the label 0 in
    the sense of "one of the old classes" (a design choice: the papers have no
    protocol without a background).

    Args:
        taxonomy: The classes and their mask ids.
        policy: ``void_train``, ``background_train`` and ``unknown`` are used.
        seen: Class ids in the order of the network's outputs.
        labelled: The seen class ids that keep their label at this step.
        old_hidden: Whether the label 0 stands for all old classes (see
            :attr:`Protocol.old_labels_hidden`); used only where there is no background.

    Returns:
        uint8 (256,): model id or 255 by mask id.
    """
    rest = 0 if taxonomy.has_background and policy.background_train == 'keep' else IGNORE
    any_old = 0 if old_hidden and not taxonomy.has_background else None
    return label_table(
        taxonomy,
        seen,
        labelled,
        background=rest,
        hidden=rest if any_old is None else any_old,
        void=rest if policy.void_train == 'background' else IGNORE,
        unknown=rest if policy.unknown == 'unseen' else IGNORE,
        unlabelled=any_old,
    )


def table_for_test(taxonomy: Taxonomy, policy: Policy, seen: Sequence[int]) -> Table:
    """Return the labels to test against, in which all classes seen so far keep their label.

    Args:
        taxonomy: The classes and their mask ids.
        policy: ``void_test``, ``background_test``, ``unseen_test`` and
            ``unknown`` are used.
        seen: Class ids in the order of the network's outputs.

    Returns:
        uint8 (256,): model id or 255 by mask id.
    """
    rest = 0 if taxonomy.has_background and policy.background_test == 'keep' else IGNORE
    unseen = rest if policy.unseen_test == 'background' else IGNORE
    return label_table(
        taxonomy,
        seen,
        seen,
        background=rest,
        hidden=unseen,
        void=rest if policy.void_test == 'background' else IGNORE,
        unknown=unseen if policy.unknown == 'unseen' else IGNORE,
    )
