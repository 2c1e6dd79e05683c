"""No loss keeps a tensor of all classes at all pixels for the backward pass.

The losses are those of the registry, so a new one is looked at without being named here.
"""

import inspect
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cil.contracts import Batch, NetworkOutput, PixelLoss
from mmseg_cil.distillers import LogitDistiller
from mmseg_cil.errors import InputError
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.distillation_loss import DistillationLoss
from mmseg_cil.losses.hidden_classes import hidden_mask
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.dkd_decomposed.distiller import DecomposedDistiller
from mmseg_cil.methods.lgkd.distiller import LabelGuidedDistiller
from mmseg_cil.methods.m2kd.distiller import M2KDDistiller
from mmseg_cil.methods.self_labels.soft import FIRST_CELL
from mmseg_cil.methods.star.replay import Replay
from mmseg_cil.models.head_losses import loss_modules
from mmseg_cil.models.heads import main_head
from mmseg_cil.models.teachers import step_teacher_name
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext

IMAGES, OLD, ALL, LOW, SIZE = 2, 101, 151, 8, 64
STEP = StepContext.of_class_counts((OLD, ALL - OLD))
#: Bytes of one float32 per pixel; the logits of all classes at all pixels have 151 times as many.
MAP = 4 * IMAGES * SIZE**2
#: Maps that a loss may keep, in all.
ALLOWED = 40


def registered(kind):
    return sorted(
        name
        for name, found in MODELS.module_dict.items()
        if inspect.isclass(found)
        and issubclass(found, kind)
        and found.__module__.startswith('mmseg_cil.')
    )


HEAD_LOSSES, DISTILLATIONS = registered(PixelLoss), registered(DistillationLoss)


def drawn(classes, seed, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(IMAGES, classes, LOW, LOW, generator=generator)


def drawn_labels():
    labels = torch.randint(OLD, ALL, (IMAGES, SIZE, SIZE), generator=torch.Generator())
    labels[:, : SIZE // 2] = 0
    labels[:, :4] = 255
    return labels


def record(logits):
    return NetworkOutput((logits,), logits, logits, classifier=torch.randn(logits.shape[1], 4))


def pixels_for(student, cuts=()):
    return PixelLogits(student, drawn_labels(), (1, OLD, *cuts))


def maps_kept(compute, student, *others):
    """Return the maps' worth of what is saved for the backward pass beyond the given logits."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (student, *others)}
    saved = {}

    def pack(tensor):
        # The tensor is kept, or its address could be used again.
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = compute()
    assert loss.requires_grad and torch.isfinite(loss)
    loss.backward()
    assert student.grad.abs().sum() > 0
    return sum(size for place, (_, size) in saved.items() if place not in known) / MAP


# Arguments of losses besides the logits and the labels.


def give_self_labels(loss):
    maps = torch.randint(1, OLD, (IMAGES, 1, SIZE, SIZE), generator=torch.Generator())
    maps[..., ::2] = 255
    loss.receive_samples([SegDataSample(gt_edge_map=PixelData(data=each)) for each in maps])


def give_soft_labels(loss):
    cells = torch.arange(SIZE**2).view(1, SIZE, SIZE) // 16 + FIRST_CELL
    values, classes = drawn(OLD, 5).softmax(1).flatten(2)[0].T.topk(5, dim=1)
    table = dict(
        values=values.repeat(4, 1).half().numpy(), classes=classes.repeat(4, 1).short().numpy()
    )
    loss._folder = SimpleNamespace(read_table=lambda path: table)
    loss.receive_samples(
        [
            SegDataSample(gt_edge_map=PixelData(data=cells), metainfo=dict(img_path=str(image)))
            for image in range(IMAGES)
        ]
    )


def give_replay(loss):
    classes = torch.arange(OLD - 1)
    ones = torch.ones(OLD - 1)
    rows = torch.randn(OLD - 1, 4)
    loss.set_replay(Replay(rows, rows, ones, ones, classes, 0.5), nn.Conv2d(4, ALL, 1))


PREPARED = {
    'PseudoLabelCrossEntropyLoss': lambda loss: loss.set_thresholds(2.0 * (torch.arange(ALL) % 2)),
    'SelfLabelCrossEntropyLoss': give_self_labels,
    'SoftSelfLabelLoss': give_soft_labels,
    'ReplayedCrossEntropyLoss': give_replay,
}


def head_loss(name, step=STEP, **options):
    loss = MODELS.build(dict(type=name, **options))
    loss.set_step(step)
    loss.receive_teacher(record(drawn(OLD, 1)))
    PREPARED.get(name, lambda loss: None)(loss)
    return loss


def kept_by_head_loss(loss):
    student = drawn(ALL, 0).requires_grad_()
    pixels = pixels_for(student, loss.cuts())
    return maps_kept(lambda: loss.of_pixels(pixels), student)


def test_there_are_losses_to_look_at():
    assert len(HEAD_LOSSES) >= 10 and len(DISTILLATIONS) >= 5
    assert 'PseudoLabelCrossEntropyLoss' in HEAD_LOSSES


@pytest.mark.parametrize('name', HEAD_LOSSES)
def test_a_loss_on_labels_keeps_a_few_maps(name):
    assert kept_by_head_loss(head_loss(name)) <= ALLOWED


@pytest.mark.parametrize('name', HEAD_LOSSES)
def test_so_it_does_where_exemplars_hide_other_classes(name):
    loss = head_loss(name)
    loss.receive_hidden(hidden_mask([None, (3, 7)], OLD, ALL))
    assert kept_by_head_loss(loss) <= ALLOWED


@pytest.mark.parametrize(
    'loss',
    [
        dict(name='ICaRLLoss', background_from_labels=True),
        dict(name='ICaRLLoss', ignored_are_negatives=True),
        dict(name='SelfLabelCrossEntropyLoss', unsure='ignore'),
        dict(name='ICaRLLoss', step=StepContext(1, (0,) * ALL, True, False, trained=(0,))),
    ],
    ids=['background', 'negatives', 'ignore', 'by domain'],
)
def test_so_it_does_in_its_other_forms(loss):
    assert kept_by_head_loss(head_loss(**loss)) <= ALLOWED


def distillers():
    for name in DISTILLATIONS:
        yield f'{name}', LogitDistiller(dict(type=name))
        yield f'{name} of old', LogitDistiller(dict(type=name), among='old')
        yield f'{name} of snapshots', M2KDDistiller(dict(type=name))
    yield 'tempered', LogitDistiller(dict(type='MatchingDistillationLoss', temperature=2.0))
    yield 'label-guided', LabelGuidedDistiller(resolution='full')
    yield 'decomposed', DecomposedDistiller()


@pytest.mark.parametrize('name', dict(distillers()))
def test_a_distillation_of_logits_keeps_a_few_maps(name):
    distiller = dict(distillers())[name]
    for module in distiller.modules():
        if hasattr(module, 'set_step'):
            module.set_step(STEP)
    student, teacher = drawn(ALL, 0).requires_grad_(), drawn(OLD, 1)
    if name == 'decomposed':
        distiller._parts = lambda student, teacher: [student.logits.sum() * 0.0] * 2
        distiller._network = (None,)
    ours, theirs = record(student), record(teacher)
    pixels = pixels_for(student, distiller.cuts())

    def compute():
        batch = Batch(ours, pixels, theirs, {step_teacher_name(0): theirs})
        return sum(value for key, value in distiller(batch).items() if 'loss' in key)

    assert maps_kept(compute, student, teacher) <= ALLOWED


class FullLoss(DecodeLoss):
    """Keeps the softmax of all classes at all pixels, as PyTorch's cross-entropy does."""

    def __init__(self):
        super().__init__(1.0, False, 'loss_full')

    def per_pixel(self, pixels):
        loss = nn.functional.cross_entropy(
            pixels.upsampled, pixels.labels, ignore_index=255, reduction='none'
        )
        return loss, pixels.ignored


def test_a_loss_that_keeps_all_classes_would_be_found():
    assert kept_by_head_loss(FullLoss()) > ALL


@pytest.mark.slow
@pytest.mark.walk
def test_no_step_of_any_method_keeps_all_classes_at_all_pixels(benchmark_module, tmp_path):
    """Losses of MMSegmentation, which fine-tuning has, are those of other packages."""
    init_default_scope('mmseg_cil')
    networks = benchmark_module('step_networks')
    classes = (OLD, ALL - OLD)
    config = networks.network_config(networks.METHODS.parent / 'models/fcn_r18-thin.py', SIZE)
    previous = networks.trained_before(config, OLD, tmp_path / 'step.pth')
    data = networks.random_batch(IMAGES, SIZE, classes)
    kept, refused = {}, set()
    for name, method in networks.methods_of(None).items():
        try:
            network = networks.segmentor_of(method, config, classes, previous, data).train()
        except InputError:
            refused.add(name)  # a paper's form that knows no more than 20 classes
            continue
        if not all(isinstance(loss, PixelLoss) for loss in loss_modules(main_head(network)[1])):
            continue
        for module in network.modules():
            if hasattr(module, 'set_iteration_seed'):
                module.set_iteration_seed(0)
        sizes = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.untyped_storage().nbytes())
            return tensor

        batch = network.data_preprocessor(data, True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = network.loss(**batch)
        assert losses
        kept[name] = max(sizes) / MAP
    assert {name: maps for name, maps in kept.items() if maps > ALLOWED} == {}
    assert {'mib', 'plop', 'lwf', 'lwf_mc', 'icarl', 'rcil', 'vdfd'} <= kept.keys()
    assert all(name.endswith('_ucd_paper') for name in refused)
