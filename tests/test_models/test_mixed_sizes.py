"""Test batches of images of several sizes."""

import torch

from mmseg_cil.models.segmentors.mixed_sizes import MixedSizes


class Recorder:
    """Predicts the first number of every image, and knows what it was given."""

    def __init__(self):
        self.batches = []

    def test_step(self, data):
        self.batches.append([tuple(image.shape) for image in data['inputs']])
        return [
            (float(image.flatten()[0]), sample)
            for image, sample in zip(data['inputs'], data['data_samples'], strict=True)
        ]

    def val_step(self, data):
        return self.test_step(data)


class Mixed(MixedSizes, Recorder):
    pass


def images(*sides):
    return dict(
        inputs=[torch.full((3, side, side), float(place)) for place, side in enumerate(sides)],
        data_samples=[f'sample {place}' for place in range(len(sides))],
    )


def test_each_size_is_a_batch_and_the_order_stays():
    for step in ('test_step', 'val_step'):
        model = Mixed()
        found = getattr(model, step)(images(4, 6, 4, 2))
        assert found == [(float(place), f'sample {place}') for place in range(4)]
        assert model.batches == [[(3, 4, 4), (3, 4, 4)], [(3, 6, 6)], [(3, 2, 2)]]


def test_a_batch_of_one_size_or_of_another_form_stays_whole():
    model = Mixed()
    model.test_step(images(4, 4))
    stacked = dict(inputs=torch.zeros(2, 3, 5, 5), data_samples=['a', 'b'])
    model.test_step(stacked)
    assert model.batches == [[(3, 4, 4)] * 2, [(3, 5, 5)] * 2]
