"""Equality with numbers from the official REMINDER code."""

import pytest
import torch
from golden_cases import deviation, files, load

from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.methods.reminder.reference import (
    mean_embeddings,
    prototypes,
    similarity,
    similarity_weighted_distillation,
)
from mmseg_cil.methods.reminder.similarity import _Distillation, embedding_sums

TOLERANCE = 1e-5


@files('reminder_csw')
@pytest.mark.parametrize('fast', [False, True])
def test_similarity_and_distillation_are_the_official_ones(path, fast):
    case = load(path)
    student, teacher, labels = case['student_logits'], case['teacher_logits'], case['labels']
    num_old, temperature = case['n_old'], case['temperature']
    student.requires_grad_()
    shares = similarity(case['batch_prototypes'][num_old:], case['prototypes'], case['delta'])
    assert deviation(shares, case['similarity']) < TOLERANCE
    if fast:
        pixels = PixelLogits(student, labels)
        places = labels.masked_fill(labels == 255, -1) - num_old
        loss = _Distillation.apply(
            pixels.precise[:, :num_old], teacher, places, shares, Grid((8, 8)), temperature
        )
        loss = loss / (places >= 0).sum()
    else:
        loss = similarity_weighted_distillation(student, teacher, labels, shares, temperature)
    loss.backward()
    assert deviation(loss, case['loss']) < TOLERANCE
    assert deviation(student.grad, case['grad_student_logits']) < TOLERANCE


def test_prototypes_are_the_official_ones():
    case = load('reminder_proto__3-2')
    new = range(case['n_old'], case['n_current'])
    embeddings = [case[f'embedding_{k}'] for k in range(3)]
    labels = [case[f'labels_{k}'] for k in range(3)]
    means, _ = mean_embeddings(embeddings[0], labels[0], new)
    # The official table has rows of zeros for old classes.
    assert deviation(means, case['batch_prototypes_0'][new.start :]) < TOLERANCE
    found, count = prototypes(embeddings, labels, new)
    assert deviation(found, case['prototypes'][new.start :]) < TOLERANCE
    assert torch.equal(count.float(), case['counts'][new.start :])
    sums = embedding_sums(embeddings[0], labels[0], new)
    means = sums[:, :-1] / sums[:, -1:]
    assert deviation(means, case['batch_prototypes_0'][new.start :]) < TOLERANCE
