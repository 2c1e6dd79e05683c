"""Networks and data of ``benchmarks/step.py``: what a method's training step needs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.method import OTHER_KEYS
from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.config.step_config import StepInputs, model_of_step
from mmseg_cil.methods.dfgr.generator_sub_step import GeneratorSubStep
from mmseg_cil.methods.dfgr.new_data_sub_step import NewDataSubStep
from mmseg_cil.methods.hinge.class_means import ClassMeans
from mmseg_cil.methods.sdr.hook import prototypes_of_images
from mmseg_cil.methods.star.replay import Replay
from mmseg_cil.models.head_losses import loss_modules
from mmseg_cil.models.heads import main_classifier, main_head
from mmseg_cil.models.plain import plain_model_config, plain_state_dict, replace_value
from mmseg_cil.models.teachers import step_teacher_name
from mmseg_cil.registry import HOOKS, MODELS, SUB_STEPS

METHODS = Path(__file__).resolve().parents[1] / 'configs/_base_/methods'


def random_batch(batch: int, crop: int, classes: tuple[int, int]) -> dict[str, Any]:
    """Images of noise as a data loader gives them; labels: background, new classes, ignored."""
    old, new = classes
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for _ in range(batch):
        images.append(torch.randint(0, 256, (3, crop, crop), generator=generator).byte())
        labels = torch.randint(old, old + new, (1, crop, crop), generator=generator)
        labels[:, : crop // 2] = 0
        labels[:, : crop // 32] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        sample.set_metainfo(dict(img_shape=(crop, crop), ori_shape=(crop, crop)))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def network_config(path: Path, crop: int) -> dict[str, Any]:
    """Return a model config without pre-trained weights, for crops of one size."""
    model = Config.fromfile(path).model.to_dict()
    model['data_preprocessor']['size'] = (crop, crop)
    for part in (model, model['backbone']):
        part.pop('pretrained', None)
        part.pop('init_cfg', None)
    plain: dict[str, Any] = replace_value(model, 'SyncBN', 'BN')
    return plain


def trained_before(model: dict[str, Any], num_classes: int, path: Path) -> dict[str, Any]:
    """Save a network of an earlier step, to start from and to learn from."""
    torch.manual_seed(0)
    network = MODELS.build(plain_model_config(model, num_classes))
    network.init_weights()
    torch.save(dict(state_dict=plain_state_dict(network.state_dict())), path)
    return dict(checkpoint=str(path), num_classes=num_classes)


def step_context(classes: tuple[int, int], tasks: int = 1) -> dict[str, Any]:
    """Plain form of the step after ``tasks`` others, all but the first of one class each."""
    old = [0] * (classes[0] - tasks + 1) + list(range(1, tasks))
    return dict(
        index=tasks,
        class_steps=old + [tasks] * classes[1],
        has_background=True,
        old_labels_hidden=True,
    )


def leave_sub_steps(
    config: dict[str, Any],
    method: dict[str, Any],
    model: dict[str, Any],
    classes: tuple[int, int],
    folder: Path,
) -> None:
    """Put what a method's sub-steps would leave into a segmentor's config: untrained networks."""
    for settings in method.get('sub_steps') or ():
        sub_step = SUB_STEPS.build(dict(settings))
        if isinstance(sub_step, NewDataSubStep):
            teacher = trained_before(model, 1 + classes[1], folder / 'new_data.pth')
            config['teachers'] = {**config['teachers'], sub_step.name: teacher}
        if isinstance(sub_step, GeneratorSubStep):
            generator = sub_step.generator_config(model['data_preprocessor'], classes[0])
            state = MODELS.build(generator).state_dict()
            torch.save(dict(state_dict=state), folder / 'generator.pth')
            config['replay'] = dict(
                type='GeneratedReplay',
                has_background=True,
                checkpoint=str(folder / 'generator.pth'),
                generator=generator,
                **sub_step.replay,
            )


def network_before(
    model: dict[str, Any], num_classes: int, previous: dict[str, Any], device: str
) -> Any:
    """Return the segmentor as the step before left it."""
    context = dict(
        index=0, class_steps=[0] * num_classes, has_background=True, old_labels_hidden=True
    )
    network = MODELS.build(
        model_of_step(
            copy.deepcopy(model), MethodConfig(), context, StepInputs(previous, None, [1])
        )
    )
    network.init_weights()
    return network.to(device)


def segmentor_of(
    method: dict[str, Any],
    model: dict[str, Any],
    classes: tuple[int, int],
    previous: dict[str, Any],
    data: dict,
    device: str = 'cpu',
    tasks: int = 1,
    earlier: Sequence[dict[str, Any]] = (),
    channels_last: bool = False,
) -> Any:
    """Return a method's segmentor at its second step, or after ``tasks`` steps, ready to train.

    It already has the values that the method's hooks would compute before training: thresholds
    of pseudo-labels, gradients of earlier outputs (here those of a batch), mean embeddings,
    prototypes. Snapshots of all earlier steps are ``earlier`` and ``previous``.
    """
    context = step_context(classes, tasks)
    torch.manual_seed(1)
    snapshots = [*earlier, previous][-tasks:] if method.get('teachers') == 'all' else []
    teachers = {
        step_teacher_name(tasks - len(snapshots) + place): snapshot
        for place, snapshot in enumerate(snapshots)
    }
    inputs = StepInputs(previous, previous, [1] * (tasks + 1), teachers=teachers)
    config = model_of_step(
        copy.deepcopy(model), MethodConfig.from_config(method, OTHER_KEYS), context, inputs
    )
    config['channels_last'] = channels_last
    leave_sub_steps(config, method, model, classes, Path(previous['checkpoint']).parent)
    segmentor = MODELS.build(config)
    segmentor.init_weights()
    segmentor.to(device)
    for module in segmentor.modules():
        if hasattr(module, 'set_thresholds'):
            # Half of the greatest uncertainty.
            module.set_thresholds(torch.full((sum(classes),), 0.5, device=device))
    takers = [
        regulariser
        for regulariser in segmentor.regularisers
        if hasattr(regulariser, 'set_earlier_steps')
    ]
    hooks = [HOOKS.build(settings) for settings in method.get('custom_hooks', ())]
    before_it = network_before(model, classes[0], previous, device) if takers else None
    for hook in (candidate for candidate in hooks if takers and hasattr(candidate, 'keep')):
        nodes = tuple((index,) for index in range(classes[0]))
        gradients = hook.keep(before_it, [data], nodes)
        for regulariser in takers:
            # The penalty is damped, as the hook does it for the SGD of step.py.
            regulariser.set_earlier_steps(
                [gradients], segmentor, segmentor.previous_state(), step_size=2e-4
            )
    for regulariser in segmentor.regularisers:
        if hasattr(regulariser, 'set_class_means'):
            # Every class has a mean embedding, here a random one.
            width = main_classifier(segmentor)[1].weight.shape[1]
            means = torch.randn(classes[0], width, device=device)
            pixels = torch.ones(classes[0], dtype=torch.int64)
            regulariser.set_class_means(
                ClassMeans(tuple(range(classes[0])), means, pixels), segmentor
            )
    for distiller in segmentor.distillers:
        if hasattr(distiller, 'set_prototypes'):
            # Means over what the network of the step before sees in the batch.
            network = network_before(model, classes[0], previous, device)
            found = prototypes_of_images(network, [data], predicted=True)
            distiller.set_prototypes(found.grown(segmentor.step.num_seen))
        if hasattr(distiller, 'set_old_prototypes'):
            width = main_classifier(segmentor)[1].weight.shape[1]
            vectors = torch.randn(classes[0], width, device=device)
            distiller.set_old_prototypes(vectors, segmentor)
    replay_by_chance(segmentor, classes[0] - 1, device)
    return segmentor


def replay_by_chance(segmentor: Any, num_old: int, device: str) -> None:
    """Give STAR's parts random prototypes of old foreground classes and an embedding of each."""
    classifier = main_classifier(segmentor)[1]
    drawn = torch.randn(num_old, classifier.weight.shape[1], device=device)
    prototypes = torch.nn.functional.normalize(drawn, dim=1)
    for distiller in segmentor.distillers:
        if hasattr(distiller, 'set_star_prototypes'):
            distiller.set_star_prototypes(prototypes)
    for loss in loss_modules(main_head(segmentor)[1]):
        if hasattr(loss, 'set_replay'):
            length, index = torch.ones(num_old, device=device), torch.arange(num_old, device=device)
            loss.set_replay(
                Replay(prototypes, 0.1 * prototypes, length, 0.1 * length, index, 0.5), classifier
            )


def parts_of(method: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a method that a training step has; pruning comes after the step."""
    parts = {key: value for key, value in method.items() if key != 'name'}
    parts['sub_steps'] = [
        part for part in method.get('sub_steps') or () if part['type'] != 'PruneSnapshot'
    ]
    return parts


def methods_of(names: list[str] | None) -> dict[str, dict[str, Any]]:
    """Methods by the name of their file; of those that consist of the same parts the first."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(METHODS.glob('*.py')):
        method = settled(Config.fromfile(path).method, 'voc_19-1')
        known = [parts_of(other) for other in found.values()]
        if parts_of(method) not in known and (names is None or path.stem in names):
            found[path.stem] = method
    return found
