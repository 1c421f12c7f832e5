"""Every sensor by itself: layers of its own and a linear head, trained on the targets before sensors meet."""

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.errors import DataError
from fusionkit.fusion.vectors import minibatches

States = Float[Tensor, "sensor record dim"]


def outcomes(target: Tensor) -> int:
    """How many numbers a linear head gives: classes, labels, or one value."""
    if target.ndim == 2:
        return target.shape[1]
    return int(target[~target.isnan()].max()) + 1


def sensor_losses(
    answer: Float[Tensor, "sensor record outcome"], target: Tensor, here: Bool[Tensor, "record sensor"]
) -> Float[Tensor, ""]:
    """Sum over sensors of the mean loss over labelled records that have the sensor.

    Cross-entropy of class indices, squared error of single values, binary cross-entropy of several labels.
    Two classes, both answers 0: log 2.
    """
    labelled = ~(target.isnan() if target.ndim == 1 else target.isnan().any(1))
    clean = torch.where(target.isnan(), torch.zeros_like(target), target)
    if target.ndim == 1:
        each = -answer.log_softmax(-1)[:, torch.arange(len(target)), clean.long()]
    elif target.shape[1] == 1:
        each = (answer - clean).square().sum(-1)
    else:
        each = F.binary_cross_entropy_with_logits(answer, clean.expand_as(answer), reduction="none").mean(-1)
    counted = labelled & here.T
    return (torch.where(counted, each, torch.zeros_like(each)).sum(1) / counted.sum(1).clamp_min(1)).sum()


def train_alone(
    states: Callable[[Tensor], States],
    parameters: Iterable[nn.Parameter],
    here: Bool[Tensor, "record sensor"],
    targets: Mapping[str, Tensor],
    *,
    rows: Tensor,
    epochs: int,
    lr: float,
    generator: torch.Generator,
) -> list[float]:
    """Train layers that keep sensors apart, all sensors at once, each with a linear head for every task.

    Heads start at zero and are thrown away; values are standardised for them.

    Args:
        states: the sensors' states of some records, by row.
        parameters: of the layers.
        here: which records have which sensors.
        targets: of the records, in the form of `TrainingBatch`.
        rows: the records to train on.
        epochs: passes.
        lr: learning rate at the start; it falls to zero.
        generator: shuffles.

    Returns:
        The mean loss of every pass.

    Raises:
        DataError: nothing is labelled.
    """
    scaled = {}
    for task, target in targets.items():
        seen = target[rows]
        labelled = seen[~seen.isnan()]
        if len(labelled):
            value = target.ndim == 2 and target.shape[1] == 1
            scaled[task] = (target - labelled.mean()) / labelled.std(correction=0).clamp_min(1e-6) if value else target
    if not scaled:
        raise DataError("training each sensor by itself needs labels, but no training record has one")
    first = states(rows[:1])
    sensors, width = first.shape[0], first.shape[-1]
    heads = [
        (nn.Parameter(first.new_zeros(sensors, width, size)), nn.Parameter(first.new_zeros(sensors, 1, size)))
        for size in map(outcomes, scaled.values())
    ]
    optimiser = torch.optim.Adam([*parameters, *(part for head in heads for part in head)], lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 1 - epoch / epochs)
    history = []
    for _ in range(epochs):
        losses = []
        for chosen in minibatches(len(rows), 128, generator):
            part = rows[chosen.to(rows.device)]
            with torch.enable_grad():
                state = states(part)
                answers = [torch.baddbmm(bias, state, weight) for weight, bias in heads]
                pairs = zip(answers, scaled.values(), strict=True)
                loss = torch.stack([sensor_losses(answer, target[part], here[part]) for answer, target in pairs]).sum()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
        schedule.step()
        history.append(sum(losses) / len(losses))
    optimiser.zero_grad()
    return history
