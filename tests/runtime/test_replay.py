"""Recordings are fed in the order of time, none before its time, and say when they end."""

import time

import numpy as np
import pytest

from fusionkit.runtime.description import Channel, Description
from fusionkit.runtime.feed import Change
from fusionkit.runtime.replay import PIECE, replay_arrays


def recording(rate, values, name="eeg"):
    return Description(name, name, tuple(Channel(str(k)) for k in range(values.shape[1])), rate), values


def everything(feed):
    pieces = []
    while not feed.ended:
        piece = feed.next(0.01)
        pieces += [] if piece is None else [piece]
    return pieces


def test_every_sample_is_fed_once_in_the_order_of_time():
    noise = np.random.default_rng(0)
    given = {"eeg": recording(100.0, noise.normal(size=(333, 2))), "ecg": recording(77.0, noise.normal(size=(100, 1)))}
    pieces = everything(replay_arrays(given, speed=np.inf))
    last = [piece.time if isinstance(piece, Change) else piece.timestamps[-1] for piece in pieces]
    assert last == sorted(last)
    for name, (described, values) in given.items():
        mine = [piece for piece in pieces if piece.sensor == name]
        assert isinstance(mine[-1], Change) and not mine[-1].present
        np.testing.assert_array_equal(np.concatenate([piece.values for piece in mine[:-1]]), values)
        stamps = np.concatenate([piece.timestamps for piece in mine[:-1]])
        np.testing.assert_allclose(stamps, np.arange(len(values)) / described.sample_rate)
        assert max(np.ptp(piece.timestamps) for piece in mine[:-1]) <= PIECE


@pytest.mark.parametrize("speed", [4.0, 20.0])
def test_nothing_is_fed_before_its_time(speed):
    feed = replay_arrays({"eeg": recording(100.0, np.zeros((200, 1)))}, speed=speed)
    began, first = None, 0.0
    while not feed.ended:
        piece = feed.next(0.01)
        now = time.monotonic()
        if piece is None or isinstance(piece, Change):
            continue
        if began is None:
            began, first = now, piece.timestamps[-1]
        assert now - began >= (piece.timestamps[-1] - first) / speed - 2e-3
        assert feed.now() == piece.timestamps[-1]


def test_waiting_ends_when_it_should():
    feed = replay_arrays({"eeg": recording(1.0, np.zeros((9, 1)))}, speed=1.0)
    assert feed.next(0.01) is not None
    began = time.monotonic()
    assert feed.next(0.01) is None
    assert 0.01 <= time.monotonic() - began < 0.9
