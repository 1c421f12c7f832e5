"""What embeddings are worth: whether neighbours are of one class, how they vote, what a line between classes says."""

import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.fusion.model import FusionModel

CELLS = 2**24  # cosines held at a time


class Embedding(NamedTuple):
    """A vector for every record, and which records have one."""

    values: Float[np.ndarray, "record dim"]
    here: Bool[np.ndarray, " record"]


class Nearest(NamedTuple):
    """Neighbours of each query, the nearest first."""

    rows: Int[np.ndarray, "query neighbour"]
    cosine: Float[np.ndarray, "query neighbour"]


@torch.no_grad()
def embed(model: FusionModel, loader: Loader, rows: Array, sensors: Iterable[str]) -> dict[str, Embedding]:
    """The pooled embeddings of some records by sensor, in evaluation mode and without augmentation.

    Args:
        model: its encoders are asked.
        loader: rows to batches.
        rows: of the study.
        sensors: that have encoders.
    """
    model.eval()
    sensors = tuple(sensors)
    found: dict[str, list[tuple[Array, Array]]] = {name: [] for name in sensors}
    for chunk in torch.split(torch.from_numpy(rows), loader.chunk):
        batch = loader.batch(chunk)
        passing = model.look(batch.inputs)
        for name in sensors:
            vectors = passing.readout(name).float().cpu().numpy()
            found[name].append((vectors, batch.inputs[name].present.cpu().numpy()))
    return {
        name: Embedding(*(np.concatenate(part) for part in zip(*parts, strict=True))) for name, parts in found.items()
    }


def nearest(
    queries: Float[np.ndarray, "query dim"], gallery: Float[np.ndarray, "other dim"] | None, count: int
) -> Nearest:
    """The neighbours with the largest cosine.

    Args:
        queries: whose neighbours.
        gallery: who may be one; None for the other queries.
        count: how many; all if there are fewer.
    """
    one, other = unit(queries), unit(queries if gallery is None else gallery)
    count = min(count, len(other) - (gallery is None))
    index, cosine = np.empty((len(one), count), np.int64), np.empty((len(one), count), np.float64)
    size = max(1, CELLS // max(1, len(other)))
    for start in range(0, len(one), size):
        near = one[start : start + size] @ other.T
        if gallery is None:
            near[np.arange(len(near)), np.arange(start, start + len(near))] = -np.inf
        best = np.argsort(-near, axis=1, kind="stable")[:, :count]
        index[start : start + size] = best
        cosine[start : start + size] = np.take_along_axis(near, best, 1)
    return Nearest(index, cosine)


def recall_at(
    found: Nearest, labels: Int[np.ndarray, " query"], others: Int[np.ndarray, " other"], count: int
) -> Bool[np.ndarray, " query"]:
    """Whether one of a query's ``count`` nearest is of its class; the mean is recall@K.

    Of points 0°, 10°, 50° and 55° with classes a, b, a and b, neighbours alone are of the other class: recall@1 is 0.

    Args:
        found: neighbours.
        labels: of queries.
        others: of those who may be neighbours.
        count: K.
    """
    return np.asarray((others[found.rows[:, :count]] == labels[:, None]).any(1))


def vote(
    found: Nearest, others: Int[np.ndarray, " other"], classes: int, temperature: float = 0.07
) -> Float[np.ndarray, "query class_"]:
    r"""Probabilities by neighbours, each of whom weighs :math:`e^{\cos / \tau}`.

    Neighbours at cosine 1 (a) and 0.5 (b) with temperature 0.5 give a 1 / (1 + 1/e) = 0.7311.

    Args:
        found: neighbours.
        others: classes of those who may be neighbours.
        classes: how many there are.
        temperature: the smaller, the more the nearest counts.

    Reference:
        Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018.
    """
    weight = np.exp((found.cosine - found.cosine.max(1, keepdims=True)) / temperature)
    one_hot = np.eye(classes)[others[found.rows]]
    return np.asarray((weight[..., None] * one_hot).sum(1) / weight.sum(1, keepdims=True))


def linear_probe(
    train: Float[np.ndarray, "record dim"],
    labels: Int[np.ndarray, " record"],
    test: Float[np.ndarray, "query dim"],
    classes: int,
) -> Float[np.ndarray, "query class_"]:
    """Probabilities by logistic regression on frozen embeddings, which are standardised by those that train.

    The penalty is half the squared norm (scikit-learn's C of 1); a class that does not train has probability 0.

    Args:
        train: embeddings with labels.
        labels: their classes.
        test: who is asked about.
        classes: how many there are.
    """
    present = np.unique(labels)
    answer = np.zeros((len(test), classes))
    if len(present) == 1:
        answer[:, present] = 1
        return answer
    mean, std = train.mean(0), train.std(0)
    std = np.where(std > 1e-6 * (np.abs(mean) + 1e-12), std, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is not separated after so many steps is not
        fitted = LogisticRegression(max_iter=1000).fit((train - mean) / std, labels)
    answer[:, present] = fitted.predict_proba((test - mean) / std)
    return answer


def unit(values: Float[np.ndarray, "some dim"]) -> Float[np.ndarray, "some dim"]:
    """Each vector at length 1; zeros stay zeros."""
    values = values.astype(np.float64)
    return cast(Array, values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def side_by_side(embeddings: Sequence[Embedding]) -> Embedding:
    """Unit vectors of several sensors in a row, zeros where one is absent, so that cosines of sensors count alike.

    Where both sensors are there, the cosine of two records is the mean of the sensors' cosines.
    """
    values = [np.where(one.here[:, None], unit(one.values), 0.0) for one in embeddings]
    return Embedding(np.concatenate(values, 1), np.any([one.here for one in embeddings], 0))
