"""VDFD where its official code is: class- and task-incremental classification, on digits.

Five steps of two digits each (1,797 images of 8 x 8 pixels, shipped with
scikit-learn). As in the official class-incremental code
one head has all outputs, cross-entropy is over those of the step, and the head
is not regularised. After the last step every digit is classified among all ten
(class-incremental) and among the two of its step (task-incremental). The
regulariser is that of the segmentation walks: the functions of mmseg_cil.methods.vdfd.

    python benchmarks/digits.py [--weights 0.1 1 10 100] [--seeds 0 1 2] [--epochs 10]

The weight is chosen on a fifth of the training digits, held out and by task-incremental
ACC; with it the method walks over all training digits and is scored on the test digits,
which nothing was chosen by. Prints, as means over the seeds, ACC (accuracy after the last
step, mean over steps) and BWT (what it is less than right after each step), in per cent:
of every weight on the held-out digits, then of the chosen ones on the test digits. Ends
with status 1 unless there VDFD and DFD are more accurate task-incrementally than
fine-tuning. Class-incrementally none of them, nor the official code, does anything about
a head whose rows never met each other.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmseg_cil.methods.vdfd.compression import OutputGradients, compress, project, stack
from mmseg_cil.methods.vdfd.covariance import PrecisionNetwork, log_det_covariance, node_graph
from mmseg_cil.methods.vdfd.filters import num_rows, order_by_rows, row_sums
from mmseg_cil.methods.vdfd.gradients import gradient_sums, mean_gradients
from mmseg_cil.methods.vdfd.quadratic_form import accumulate, quadratic_form

PAIRS = tuple((2 * step, 2 * step + 1) for step in range(5))
EPS = 1e-3


@dataclass(frozen=True)
class Digits:
    """Images ``(N, 1, 8, 8)`` and labels ``(N,)``."""

    images: Tensor
    labels: Tensor

    def of(self, pair: tuple[int, int]) -> Digits:
        """Return the images and labels of two digits."""
        chosen = (self.labels == pair[0]) | (self.labels == pair[1])
        return Digits(self.images[chosen], self.labels[chosen])


def load() -> tuple[Digits, Digits]:
    """Return four fifths of the images to train on and one fifth to test on."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print(
            'error: the digits are those of scikit-learn: pip install scikit-learn', file=sys.stderr
        )
        sys.exit(2)
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16 - 0.3
    return split(Digits(images, torch.tensor(data.target)))


def split(data: Digits) -> tuple[Digits, Digits]:
    """Split the images at random into four fifths and one fifth."""
    order = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(0))
    first, second = order.tensor_split([len(order) * 4 // 5])
    return (
        Digits(data.images[first], data.labels[first]),
        Digits(data.images[second], data.labels[second]),
    )


def build() -> nn.Module:
    """Two convolutions, a linear layer of 64 features, and the head."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def body(network: nn.Module) -> dict[str, Tensor]:
    """All parameters but the head's."""
    found = {
        name: parameter
        for name, parameter in network.named_parameters()
        if not name.startswith('8.')
    }
    return {name: found[name] for name in order_by_rows(found)}


def keep(network: nn.Module, data: Digits, pair: tuple[int, int]) -> OutputGradients:
    """Return the gradients of the mean logits of a step's digits."""
    tensors = body(network)
    rows = tuple(num_rows(tensor) for tensor in tensors.values())

    def outputs(images: Tensor) -> tuple[Tensor, Tensor]:
        sums = network(images)[:, list(pair)].sum(dim=0)
        return sums, torch.full((2,), float(len(images)))

    gradients = mean_gradients(
        *gradient_sums(outputs, data.images.split(64), list(tensors.values()), 2)
    )
    kept = OutputGradients(
        tuple(tensors),
        rows,
        *compress(gradients, rows),
        torch.zeros(2),
        tuple((digit,) for digit in pair),
    )
    return OutputGradients(**{**vars(kept), 'projection': kept.project(tensors)})


class DFDPenalty:
    """Penalise the changes of the outputs of earlier steps."""

    def __init__(self, network: nn.Module, earlier: list[OutputGradients]) -> None:
        tensors = list(body(network).values())
        self.tensors = tensors
        self.heights = [num_rows(tensor) for tensor in tensors]
        self.left, self.core = stack(earlier, list(body(network)), self.heights)
        self.anchor = row_sums(tensors).detach()
        self.offset = torch.stack(
            [gradients.project(body(network)) - gradients.projection for gradients in earlier]
        )

    def parameters(self) -> list[Tensor]:
        """Return what is learnt beside the network."""
        return []

    def factors(self) -> Tensor | None:
        """Return P of every step; None: the covariance is the identity."""
        return None

    def __call__(self) -> Tensor:
        """Return the loss."""
        changes = project(self.left, self.core, self.heights, row_sums(self.tensors) - self.anchor)
        factors = self.factors()
        log_dets = (
            torch.zeros(len(changes)) if factors is None else log_det_covariance(factors, EPS)
        )
        return accumulate(
            quadratic_form((changes + self.offset.float()).unsqueeze(-1), factors, EPS), log_dets
        )


class VDFDPenalty(DFDPenalty):
    """With the graph network's covariance."""

    def __init__(self, network: nn.Module, earlier: list[OutputGradients]) -> None:
        super().__init__(network, earlier)
        head: Tensor = network[8].weight.detach().clone()  # type: ignore[index]
        self.graph = node_graph(
            [head[[node[0] for node in gradients.nodes]] for gradients in earlier]
        )
        self.covariance = PrecisionNetwork(64)

    def parameters(self) -> list[Tensor]:
        """Return the parameters of the graph network."""
        return list(self.covariance.parameters())

    def factors(self) -> Tensor:
        """See :meth:`DFDPenalty.factors`."""
        return self.covariance(*self.graph).unflatten(0, (len(self.offset), -1))


#: Penalty of each method.
PENALTIES: dict[str, type[DFDPenalty] | None] = {
    'finetune': None,
    'dfd': DFDPenalty,
    'vdfd': VDFDPenalty,
}


def train(
    network: nn.Module,
    data: Digits,
    pair: tuple[int, int],
    penalty: DFDPenalty | None,
    weight: float,
    epochs: int,
) -> None:
    """One step."""
    groups = [dict(params=list(network.parameters()), lr=1e-3)]
    if penalty is not None and penalty.parameters():
        groups.append(dict(params=penalty.parameters(), lr=5e-4, weight_decay=5e-4))
    optimizer = torch.optim.Adam(groups)
    for _ in range(epochs):
        for chosen in torch.randperm(len(data.labels)).split(32):
            logits = network(data.images[chosen])[:, list(pair)]
            loss = functional.cross_entropy(logits, data.labels[chosen] - pair[0])
            if penalty is not None:
                loss = loss + weight * penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def accuracy(network: nn.Module, test: Digits, pair: tuple[int, int], seen: int) -> Tensor:
    """Share of a step's digits that are right among all seen, and among the two of the step."""
    data = test.of(pair)
    with torch.no_grad():
        logits = network(data.images)
    among_all = logits[:, :seen].argmax(dim=1) == data.labels
    among_two = logits[:, list(pair)].argmax(dim=1) + pair[0] == data.labels
    return torch.stack([among_all.float().mean(), among_two.float().mean()])


def walk(
    method: str, weight: float, seed: int, epochs: int, train_set: Digits, test_set: Digits
) -> Tensor:
    """ACC and BWT, class- and then task-incremental: ``(4,)``, in per cent."""
    torch.manual_seed(seed)
    network = build()
    earlier: list[OutputGradients] = []
    table = torch.zeros(5, 5, 2)
    for step, pair in enumerate(PAIRS):
        data = train_set.of(pair)
        kind = PENALTIES[method]
        with torch.random.fork_rng(devices=[]):  # all methods see the digits in one order
            penalty = kind(network, earlier) if kind is not None and earlier else None
        train(network, data, pair, penalty, weight, epochs)
        earlier.append(keep(network, data, pair))
        for other in range(step + 1):
            table[step, other] = accuracy(network, test_set, PAIRS[other], pair[1] + 1)
    last = table[4]
    forgotten = (last[:4] - torch.stack([table[step, step] for step in range(4)])).mean(dim=0)
    return 100 * torch.stack([last.mean(dim=0), forgotten], dim=1).flatten()


def mean_of_seeds(
    method: str, weight: float, args: argparse.Namespace, train_set: Digits, test_set: Digits
) -> Tensor:
    """Return and print the mean over the seeds of the results of :func:`walk`."""
    mean = torch.stack(
        [walk(method, weight, seed, args.epochs, train_set, test_set) for seed in args.seeds]
    ).mean(dim=0)
    print(f'{method:<10}{weight:>8g}' + ''.join(f'{value:>10.1f}' for value in mean), flush=True)
    return mean


def choose_weights(train_set: Digits, args: argparse.Namespace) -> dict[str, float]:
    """Return each method's weight of the highest task-incremental ACC on held-out digits."""
    learnt, held_out = split(train_set)
    print(f'{len(held_out.labels)} held-out training digits')
    mean_of_seeds('finetune', 0.0, args, learnt, held_out)
    chosen = {}
    for method in ('dfd', 'vdfd'):
        found = {
            weight: float(mean_of_seeds(method, weight, args, learnt, held_out)[2])
            for weight in args.weights
        }
        chosen[method] = max(found, key=lambda weight: found[weight])
    return chosen


def main() -> int:
    """Chooses the weights and walks with them."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--weights', type=float, nargs='+', default=[0.1, 1.0, 10.0, 100.0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--epochs', type=int, default=10)
    args = parser.parse_args()
    train_set, test_set = load()
    print(f'{"":<10}{"weight":>8}   class-incremental    task-incremental')
    print(f'{"":<10}{"":>8}{"ACC":>10}{"BWT":>10}{"ACC":>10}{"BWT":>10}')
    chosen = choose_weights(train_set, args)
    print(f'{len(test_set.labels)} test digits')
    base = mean_of_seeds('finetune', 0.0, args, train_set, test_set)[2]
    found = [
        mean_of_seeds(method, weight, args, train_set, test_set)[2]
        for method, weight in chosen.items()
    ]
    return 0 if min(found) > base else 1


if __name__ == '__main__':
    sys.exit(main())
