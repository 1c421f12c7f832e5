"""Replay buffers against hand values, naive loops and what each promises of a stream."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fusionkit.core import registry
from fusionkit.pretraining.replay.buffer import EMPTY, ReplayBuffer
from fusionkit.pretraining.replay.fifo import FIFO
from fusionkit.pretraining.replay.min_red import MinRed, least_redundant
from fusionkit.pretraining.replay.reservoir import Reservoir


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def directions(*degrees: float) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angle.cos(), angle.sin()], 1)


def every() -> list[str]:
    return registry.buffers.kinds()


def made(kind: str, size: int, dim: int = 2) -> ReplayBuffer:
    buffer: ReplayBuffer = registry.buffers.build(kind, {}, size, dim)
    return buffer


def feed(buffer: ReplayBuffer, rows: torch.Tensor, embedding: torch.Tensor, part: int) -> None:
    for some, seen in zip(rows.split(part), embedding.split(part), strict=True):
        buffer.insert(some, seen if buffer.compares else None)


def test_hand_value_the_earlier_of_the_two_nearest_goes() -> None:
    given = directions(0, 5, 90, 180, 265)
    nearest = (1 - given @ given.T + 9 * torch.eye(5)).amin(1)
    assert nearest.tolist() == pytest.approx([0.0038, 0.0038, 0.9128, 0.9128, 0.9128], abs=1e-4)
    assert least_redundant(given, torch.ones(5, dtype=torch.bool), 4).tolist() == [1, 2, 3, 4]


def naively(embedding: np.ndarray, size: int) -> list[int]:
    alive = list(range(len(embedding)))
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    while len(alive) > size:
        nearest = [min(1 - unit[i] @ unit[j] for j in alive if j != i) for i in alive]
        alive.pop(int(np.argmin(np.round(nearest, 12))))
    return alive


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 4, 11])
def test_what_stays_is_what_a_naive_loop_keeps(seed: int, size: int) -> None:
    given = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert least_redundant(given, torch.ones(12, dtype=torch.bool), size).tolist() == naively(given.numpy(), size)


def test_places_that_are_not_filled_go_first_and_records_without_sensors_are_alike() -> None:
    given = torch.cat([torch.zeros(2, 2, dtype=torch.float64), directions(0, 1, 90)])
    filled = torch.tensor([False, False, True, True, True])
    assert least_redundant(given, filled, 3).tolist() == [2, 3, 4]
    assert least_redundant(given, filled, 2).tolist() == [3, 4]
    absent = torch.cat([torch.zeros(2, 2, dtype=torch.float64), directions(0, 40, 90)])
    assert least_redundant(absent, torch.ones(5, dtype=torch.bool), 4).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", every())
@pytest.mark.parametrize("part", [1, 3, 20])
def test_a_buffer_keeps_no_more_than_its_size_of_what_came_each_once_and_in_order(kind: str, part: int) -> None:
    buffer = made(kind, 8)
    seen = F.normalize(torch.randn(50, 2), dim=1)
    for start in range(0, 50, part):
        feed(buffer, torch.arange(start, min(start + part, 50)), seen[start : start + part], part)
        kept = buffer.rows[buffer.rows != EMPTY].tolist()
        came = min(start + part, 50)
        assert len(kept) == min(8, came) and kept == sorted(set(kept)) and max(kept) < came
    assert (buffer.rows != EMPTY).all()


def test_first_in_is_first_out() -> None:
    buffer = FIFO(3, 1)
    feed(buffer, torch.arange(7), torch.zeros(7, 1), 2)
    assert buffer.rows.tolist() == [4, 5, 6]


@pytest.mark.parametrize("part", [1, 7, 40])
def test_a_reservoir_keeps_every_record_alike(part: int) -> None:
    kept = torch.zeros(40)
    for _ in range(600):
        buffer = Reservoir(10, 1)
        feed(buffer, torch.arange(40), torch.zeros(40, 1), part)
        kept[buffer.rows] += 1
    expected = 600 * 10 / 40
    spread = math.sqrt(600 * 0.25 * 0.75)
    assert ((kept - expected).abs() < 4.2 * spread).all()
    assert kept[:20].sum() / kept.sum() == pytest.approx(0.5, abs=0.03)


def stream_of_scenes(classes: int = 8, each: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames sorted by class, nearly the same within one."""
    centres = F.normalize(torch.randn(classes, 16), dim=1)
    frames = centres.repeat_interleave(each, 0) + 0.02 * torch.randn(classes * each, 16)
    return frames, torch.arange(classes).repeat_interleave(each)


def nearest(embedding: torch.Tensor) -> float:
    unit = F.normalize(embedding, dim=1)
    return float((1 - unit @ unit.T + 9 * torch.eye(len(unit))).amin())


def test_minimum_redundancy_keeps_all_classes_of_a_sorted_stream_and_records_far_apart() -> None:
    frames, labels = stream_of_scenes()
    kept = {}
    for kind in every():
        buffer = made(kind, 10, 16)
        feed(buffer, torch.arange(len(frames)), frames, 12)
        kept[kind] = buffer.rows
    classes = {kind: labels[rows].unique().numel() for kind, rows in kept.items()}
    assert classes["min_red"] == 8 and classes["fifo"] == 1 and classes["min_red"] >= classes["reservoir"]
    apart = {kind: nearest(frames[rows]) for kind, rows in kept.items()}
    assert apart["min_red"] > apart["fifo"] and apart["min_red"] > apart["reservoir"]


def test_a_drawn_embedding_moves_half_way_and_one_drawn_twice_to_the_mean() -> None:
    buffer = MinRed(3, 2)
    buffer.insert(torch.arange(3), directions(0, 90, 180).float())
    buffer.refresh(torch.tensor([0, 1, 1]), directions(90, 10, 50).float() * 3)
    found = torch.rad2deg(torch.atan2(buffer.embedding[:, 1], buffer.embedding[:, 0]))
    torch.testing.assert_close(found.abs(), torch.tensor([45.0, 60.0, 180.0]), atol=1e-3, rtol=0)
    still = MinRed(1, 2, momentum=1.0)
    still.insert(torch.arange(1), directions(20).float())
    still.refresh(torch.tensor([0]), directions(80).float())
    torch.testing.assert_close(still.embedding, directions(20).float())


@pytest.mark.parametrize("kind", every())
def test_a_draw_takes_each_record_about_as_often_and_none_twice_before_all(kind: str) -> None:
    buffer = made(kind, 6)
    feed(buffer, torch.arange(4) + 10, directions(0, 90, 180, 270).float(), 4)
    drawn = buffer.rows[buffer.sample(9)]
    assert sorted(torch.bincount(drawn - 10).tolist()) == [2, 2, 2, 3]
    first = torch.stack([buffer.rows[buffer.sample(1)] for _ in range(800)]) - 10
    assert ((torch.bincount(first.flatten()) - 200).abs() < 55).all()


@pytest.mark.parametrize("kind", every())
def test_a_buffer_comes_back_from_its_state(kind: str) -> None:
    one, other = made(kind, 5, 3), made(kind, 5, 3)
    seen = torch.randn(30, 3)
    feed(one, torch.arange(18), seen[:18], 4)
    other.load_state_dict(one.state_dict())
    for buffer in (one, other):
        torch.manual_seed(3)
        feed(buffer, torch.arange(18, 30), seen[18:], 5)
    assert torch.equal(one.rows, other.rows)
