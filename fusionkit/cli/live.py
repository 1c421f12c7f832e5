"""How a closed loop is shown while it goes: sensors, answers and what was decided lately."""

import math
import time
from collections import deque
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fusionkit.runtime.description import shown
from fusionkit.runtime.feed import Change, Feed
from fusionkit.runtime.stream import Decision, SensorHealth, Stream

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta")
"""Of classes, in their order."""
BAR = 40
BACKLOG = 20
"""Chunks that may wait without a word: sensors come in bursts."""
LATELY = 60
"""Decisions that are shown."""
STATES = {
    "present": "green",
    "calibrating": "yellow",
    "waiting": "yellow",
    "late": "red",
    "gone": "red",
    "absent": "dim",
    "ended": "dim",
}


class Live:
    """What is going on, drawn anew whenever rich asks.

    Args:
        title: the bundle, and where its sensors come from.
        stream: decides.
        feed: brings samples.
    """

    def __init__(self, title: str, stream: Stream, feed: Feed) -> None:
        self._title, self._stream, self._feed = title, stream, feed
        self._past: deque[Decision] = deque(maxlen=LATELY)
        self._gone: set[str] = set()
        self._notes: deque[str] = deque(feed.notes, maxlen=4)
        self._began = time.monotonic()

    def show(self, heard: Decision | Change | None) -> None:
        """Take what the loop gave."""
        if isinstance(heard, Decision):
            self._past.append(heard)
        elif isinstance(heard, Change):
            (self._gone.discard if heard.present else self._gone.add)(heard.sensor)
            start = self._stream.start
            at = clock(heard.time - start) if start is not None else "--:--"
            self._notes.append(f"{at}  {heard.sensor}: {heard.note}")

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._sensors(), Text()]
        for task, described in self._stream.session.tasks.items():
            parts += [self._answer(task, described.classes), Text()]
        parts += [Text(note, style="dim") for note in tuple(self._notes)] or [Text("Ctrl-C ends it", style="dim")]
        return Panel(Group(*parts), title=self._title, subtitle=self._line(), title_align="left", padding=(1, 2))

    def _line(self) -> str:
        health = self._stream.health
        spent = max(time.monotonic() - self._began, 1e-9)
        start = self._stream.start
        signal = self._past[-1].time - start if self._past and start is not None else spent
        words = [clock(signal), f"{health.decisions} decisions", f"{health.decisions / spent:.1f}/s"]
        if health.decisions:
            words.append(f"lag {milliseconds(health.lag_p50)} (p99 {milliseconds(health.lag_p99)})")
        waiting = self._feed.waiting()
        words += [f"{waiting} chunks waiting"] if waiting > BACKLOG else []
        words += [f"{health.skipped} skipped"] if health.skipped else []
        return "  ".join(words)

    def _sensors(self) -> Table:
        table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
        for name, right in (
            ("sensor", False), ("", False), ("samples", True), ("behind", True), ("gaps", True), ("lost", True),
            ("jitter", True), ("drift", True), ("late", True),
        ):  # fmt: skip
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        health = self._stream.health
        for name, sensor in health.sensors.items():
            state = self.state(name, sensor, calibrating=bool(health.calibrating and not health.decisions))
            timed = name in self._stream.tracks
            behind = milliseconds(sensor.behind) if timed and state == "present" else ""
            table.add_row(
                Text(name, style="bold"),
                Text(f"● {state}", style=STATES[state]),
                f"{sensor.samples:,}",
                behind,
                str(sensor.gaps) if timed else "",
                f"{sensor.lost:,}" if timed else "",
                milliseconds(sensor.jitter) if timed else "",
                f"{sensor.drift:+.0f} ppm" if timed else "",
                str(sensor.late) if timed else "",
            )
        return table

    def state(self, name: str, sensor: SensorHealth, *, calibrating: bool) -> str:
        """What a sensor is doing, in a word."""
        if name not in self._feed.sensors:
            return "absent"
        if self._feed.ended:
            return "ended"
        if name in self._gone:
            return "gone"
        if not sensor.samples:
            return "waiting"
        if calibrating:
            return "calibrating"
        if not sensor.living:
            return "late"
        return "present" if not self._past or self._past[-1].present.get(name) else "absent"

    def _answer(self, task: str, classes: tuple[str, ...]) -> Group:
        if not self._past:
            return Group(Text(task, style="bold"), Text("no decision yet", style="dim"))
        last = self._past[-1]
        if not classes:
            return Group(Text.assemble((task, "bold"), f"  {last.label[task]:.4g}"), self._values(task))
        said = last.label[task]
        width = max(len(name) for name in (*classes, "lately"))
        rows = [Text.assemble((task, "bold"), "  ", self._said(task, last, classes))]
        for place, (name, share) in enumerate(zip(classes, last.answers[task].tolist(), strict=True)):
            full = min(max(share, 0.0), 1.0) * BAR
            bar = "━" * math.floor(full) + ("╸" if full % 1 >= 0.5 else "")
            chosen = name == said or (isinstance(said, tuple) and name in said)
            style = COLOURS[place % len(COLOURS)]
            rows.append(
                Text.assemble(
                    (f"{shown(name):<{width}}  ", "bold" if chosen else "dim"),
                    (f"{bar:<{BAR}}", style if chosen else f"dim {style}"),
                    (f"  {share:.2f}", "bold" if chosen else "dim"),
                )
            )
        if not isinstance(said, tuple):
            rows.append(Text.assemble((f"{'lately':<{width}}  ", "dim"), self._history(task, classes)))
        return Group(*rows)

    @staticmethod
    def _said(task: str, last: Decision, classes: tuple[str, ...]) -> Text:
        said = last.label[task]
        if isinstance(said, tuple):
            return Text(shown(", ".join(said)) or "none", style="bold")
        return Text(shown(str(said)), style=f"bold {COLOURS[classes.index(str(said)) % len(COLOURS)]}")

    def _history(self, task: str, classes: tuple[str, ...]) -> Text:
        """A block a decision, in the colour of its class and as high as it is sure."""
        line = Text()
        for one in tuple(self._past):
            colour = COLOURS[classes.index(str(one.label[task])) % len(COLOURS)]
            line.append("▁▂▃▄▅▆▇█"[min(7, int(8 * one.confidence[task]))], style=colour)
        return line

    def _values(self, task: str) -> Text:
        values = [float(one.answers[task][0]) for one in tuple(self._past)]
        low, high = min(values), max(values)
        return Text(
            "".join("▁▂▃▄▅▆▇█"[int(7.999 * (one - low) / (high - low))] if high > low else "▄" for one in values),
            style=COLOURS[0],
        )


def decision_line(decision: Decision, start: float) -> str:
    """One decision in a line of text."""
    answers = []
    for task, label in decision.label.items():
        if isinstance(label, float):
            answers.append(f"{task} {label:.4g}")
        else:
            said = label if isinstance(label, str) else ",".join(label) or "none"
            answers.append(f"{task} {said} {decision.confidence[task]:.3f}")
    here = " ".join(name for name, present in decision.present.items() if present)
    return shown(f"{decision.time - start:9.3f} s  {'  '.join(answers)}  [{here}]  lag {milliseconds(decision.lag)}")


def decision_json(decision: Decision, classes: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    """One decision as plain data."""
    return {
        "time": decision.time,
        "number": decision.number,
        "label": dict(decision.label),
        "confidence": dict(decision.confidence),
        "answers": {
            task: dict(zip(classes[task], answer.tolist(), strict=True)) if classes[task] else float(answer[0])
            for task, answer in decision.answers.items()
        },
        "present": dict(decision.present),
        "lag": decision.lag,
    }


def summary_lines(stream: Stream) -> list[str]:
    """How it went, when it has ended."""
    health = stream.health
    line = f"{health.decisions} decisions"
    if health.decisions:
        line += f", lag {milliseconds(health.lag_p50)} (p99 {milliseconds(health.lag_p99)})"
    for count, what in ((health.skipped, "skipped"), (health.calibrating, "calibrating"), (health.empty, "empty")):
        line += f", {count} {what}" if count else ""
    lines = [line]
    for name, sensor in health.sensors.items():
        what = "samples" if name in stream.tracks else "values"
        said = f"  {name}: {sensor.samples:,} {what}, in {sensor.windows} decisions"
        if sensor.lost or sensor.gaps:
            said += f", {sensor.lost:,} lost in {sensor.gaps} gaps"
        said += f", late {sensor.late} times" if sensor.late else ""
        said += f", {sensor.dropped} dropped" if sensor.dropped else ""
        said += f", its clock set back {sensor.setbacks} times" if sensor.setbacks else ""
        lines.append(said)
    return lines


def milliseconds(seconds: float) -> str:
    """A short time, to be read at a glance."""
    if not math.isfinite(seconds):
        return "-"
    return f"{1e3 * seconds:.1f} ms" if abs(seconds) < 1 else f"{seconds:.1f} s"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
