"""The closed loop: chunks in, decisions out."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fusionkit.runtime.answers import Answers
from fusionkit.runtime.feed import Change, Feed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusionkit.runtime.log import Log
    from fusionkit.runtime.stream import Decision, Stream

TICK = 0.1
"""Seconds after which the loop gives a sign where nothing arrives."""


class Outlet(Protocol):
    """Where decisions go, such as `fusionkit.runtime.lsl.LslOutlet`."""

    def push(self, sample: "Sequence[float]", time: float) -> None:
        """Send the numbers of one decision."""


def run(
    stream: "Stream",
    feed: Feed,
    answers: Answers,
    *,
    outlet: Outlet | None = None,
    log: "Log | None" = None,
    duration: float | None = None,
) -> "Iterator[Decision | Change | None]":
    """Carry what a feed brings to a stream, and its decisions to an outlet and a log, until the feed ends.

    Sensors that the feed does not bring are absent from the start. A decision that waits for a sensor is made without
    it as soon as that goes, which every sensor of a recording does at its end.

    Args:
        stream: decides.
        feed: brings samples.
        answers: what a decision's numbers are.
        outlet: where they are published.
        log: where all is noted.
        duration: seconds of the feed's clock after which to stop; None: never.

    Returns:
        Decisions, sensors that come and go, and None every now and then where neither happens.

    Raises:
        BundleError: the feed brings what the stream cannot take.

    Example:
        >>> session = Session.load("model.fusion")  # doctest: +SKIP
        >>> stream, answers = Stream(session), Answers(session, "mood", step=None)  # doctest: +SKIP
        >>> with LslFeed(session.sensors) as feed:  # doctest: +SKIP
        ...     for heard in run(stream, feed, answers, outlet=LslOutlet(answers.description)):
        ...         print(heard)
    """
    for name in stream.session.sensors:
        if name not in feed.sensors:
            stream.absent(name)
    first: float | None = None
    while not feed.ended:
        piece = feed.next(TICK)
        if first is not None and duration is not None and feed.now() - first >= duration:
            break
        made: list[Decision] = []
        if isinstance(piece, Change):
            if log is not None:
                log.change(piece)
            if not piece.present:
                stream.absent(piece.sensor)
                made = stream.push_all({})  # what waited for it
        elif piece is not None and len(piece.timestamps):
            if first is None:
                first = float(np.min(piece.timestamps))
            if log is not None:
                log.chunk(piece)
            made = stream.push(piece.sensor, piece.values, piece.timestamps)
        for decision in made:
            yield _tell(decision, answers, outlet, log)
        if isinstance(piece, Change):
            yield piece
        elif not made:
            yield None


def _tell(decision: "Decision", answers: Answers, outlet: Outlet | None, log: "Log | None") -> "Decision":
    sample = answers.sample(decision)
    if outlet is not None:
        outlet.push(sample, decision.time)
    if log is not None:
        log.decision(decision.time, sample)
    return decision
