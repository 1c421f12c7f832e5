"""Decisions as samples of a stream, the same on the network and in a log."""

from typing import TYPE_CHECKING

import numpy as np

from fusionkit.runtime.description import Channel, Description
from fusionkit.runtime.fit import DECISION

if TYPE_CHECKING:
    from fusionkit.runtime.session import Session
    from fusionkit.runtime.stream import Decision


class Answers:
    """Which numbers a decision has, and what they are.

    Of every task: a channel for every class or label, ``state/tense``, with its probability, or ``state`` with the
    value; then, of classes, ``state/label``, the place of the class that is said (from 0, in the order of the
    channels), which differs from the likeliest one where decisions are debounced; and ``state/confidence``. Then, of
    every sensor, ``present/eeg``: 1 where the decision saw it.

    Args:
        session: who decides.
        name: of the stream.
        step: seconds from one decision to the next; None where they come when they come.
        bundle: hash of the bundle, so that it can be told later which one decided.
    """

    def __init__(self, session: "Session", name: str, step: float | None, bundle: str = "") -> None:
        self._session = session
        channels = []
        for task, described in session.tasks.items():
            if described.outcome == "value":
                channels.append(Channel(task, "", "Value"))
                continue
            channels += [Channel(f"{task}/{one}", "probability", "Probability") for one in described.classes]
            if described.kind != "multi_label":
                channels.append(Channel(f"{task}/label", "class index", "Label"))
            channels.append(Channel(f"{task}/confidence", "probability", "Confidence"))
        channels += [Channel(f"present/{sensor}", "boolean", "Presence") for sensor in session.sensors]
        about = (("manufacturer", "fusionkit"), ("model", session.manifest.name), ("bundle_sha256", bundle))
        source = f"fusionkit-{bundle[:16] or session.manifest.name}-{name}"
        self.description = Description(
            name, DECISION, tuple(channels), 1 / step if step else None, "float32", source, about=about
        )

    def sample(self, decision: "Decision") -> list[float]:
        """The numbers of one decision."""
        numbers: list[float] = []
        for task, described in self._session.tasks.items():
            numbers += [float(one) for one in np.ravel(decision.answers[task])]
            if described.outcome == "value":
                continue
            if described.kind != "multi_label":
                numbers.append(float(described.classes.index(str(decision.label[task]))))
            numbers.append(decision.confidence[task])
        return [*numbers, *(float(decision.present.get(sensor, False)) for sensor in self._session.sensors)]
