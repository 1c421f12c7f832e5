"""The part of a comparison's page about absent and failing sensors, and what each sensor is worth."""

from collections.abc import Iterator
from html import escape

import numpy as np

from fusionkit.compare.findings.stress import Stress
from fusionkit.evaluation import html
from fusionkit.evaluation.comparison_plots import robustness_curves, robustness_heat_map, shapley_bars
from fusionkit.evaluation.contribution import Contribution, adds
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.plots import svg_text
from fusionkit.evaluation.statistics.conclude import signed

WIDE = 16
"""Sets of absent sensors up to which the map shows all; of more, those with one absent or one left."""

FAULTS = (
    "Test records are spoilt before features are made of them; the same noise strikes every strategy and seed. Missing "
    "stretches are silent and a sensor without anything left is absent; of what has no time, whole records are missing, "
    "several in a row. A late sensor shows what its recording held before; before that, silence."
)


def stress_section(stress: Stress) -> Iterator[str]:
    """What one task's strategies score as sensors fail, and what their sensors are worth to them."""
    yield "<h3>What each sensor is worth</h3>"
    yield (
        f"<p class='muted'>A set of sensors is worth what the one trained model scores with the others absent; none, what "
        f"the training prior scores. Shares are exact Shapley values, with 95 % intervals over "
        f"{stress.subjects} {escape(stress.by)}s, which these very models answered: other trainings may differ. What a sensor adds is said to be shown by a t test over "
        f"them, after Holm's correction over a strategy's sensors. A model that was trained without absent sensors (modality dropout) may "
        f"take their absence worse than it has to.{_turned(stress)}</p>"
    )
    for name, found in stress.contributions.items():
        sentences = "".join(f"<li>{escape(name)}: {escape(adds(found, sensor))}</li>" for sensor in found.sensors)
        yield f"<ul>{sentences}</ul>"
    for name, found in stress.contributions.items():
        yield html.figure(svg_text(shapley_bars(found, stress.metric)), name)
    pairs = [line for name, found in stress.contributions.items() for line in _pairs(name, found)]
    if pairs:
        check = max(found.check for found in stress.contributions.values())
        yield (
            f"<p class='muted'>Check: shares from 2000 random orders of plugging sensors in are at most {check:.1f} standard "
            f"errors away.</p>"
        )
        header = ["strategy", "sensors", "together beyond what each brings"]
        yield f"<details><summary>pairs of sensors</summary>{html.table(header, pairs)}</details>"
    yield "<h3>Absent sensors</h3>"
    absent = [n for n, case in enumerate(stress.cases) if case.fault is None]
    most = max(len(stress.cases[n].absent) for n in absent)
    if len(absent) > WIDE:
        absent = [n for n in absent if len(stress.cases[n].absent) in (0, 1, most - 1, most)]
    yield _map(
        stress, absent, "seeds averaged; of a sensor alone nothing is left when it is absent but the training prior"
    )
    if stress.curves:
        yield "<h3>Failing sensors</h3>"
        yield f"<p class='muted'>{escape(FAULTS)}</p>"
        strongest = [0, *_strongest(stress)]
        yield _map(stress, strongest, "every fault at its strongest")
        for curve in stress.curves.values():
            scores = {name: curve.scores[name] for name in curve.struck}
            drawn = robustness_curves(scores, curve.levels, stress.metric, curve.words, among=stress.strategies)
            yield html.figure(svg_text(drawn), "with 95 % intervals; strategies that have the sensor")
        yield f"<details><summary>areas and effective robustness</summary>{_robustness(stress)}</details>"
    for name, why in stress.left_out.items():
        yield f'<p class="note">{escape(name)} is left out: {escape(why)}</p>'


def _turned(stress: Stress) -> str:
    return "" if stress.better == "higher" else " Less is better here: signs are turned, so that a gain is above 0."


def _strongest(stress: Stress) -> list[int]:
    last = {(case.fault.kind, case.fault.sensor): n for n, case in enumerate(stress.cases) if case.fault is not None}
    return list(last.values())


def _map(stress: Stress, cases: list[int], caption: str) -> str:
    drawn = robustness_heat_map(
        stress.scores[:, cases],
        stress.strategies,
        [stress.cases[n].label for n in cases],
        stress.metric,
        better=stress.better,
    )
    return html.figure(svg_text(drawn), caption)


def _pairs(name: str, found: Contribution) -> Iterator[tuple[list[str], bool]]:
    for pair, value in found.pairs.items():
        yield [name, " + ".join(pair), _span(value, sign=True)], bool(value.low > 0 or value.high < 0)


def _robustness(stress: Stress) -> str:
    lines = []
    for curve in stress.curves.values():
        for name in curve.struck:
            one = curve.robustness[name]
            effective = "reference" if name == curve.reference else _span(one.effective, sign=True)
            cells = [f"{name}\n{curve.words}", _span(one.clean), _span(one.worst), _span(one.relative), _span(one.area)]
            lines.append(([*cells, effective], bool(name != curve.reference and one.effective.low > 0)))
    references = ", ".join(sorted({curve.reference for curve in stress.curves.values()}))
    words = (
        "Relative robustness is the area under the curve, the mean that area by the range of levels (of missing data, the "
        "missingness area); effective robustness sums over levels how much less is lost than the reference loses: "
        f"{references}. Nothing is normalised by who else takes part.{_turned(stress)}"
    )
    header = ["strategy", "without", "strongest", "relative", "mean", "effective"]
    return f"<p class='muted'>{escape(words)}</p>{html.table(header, lines)}"


def _span(value: Interval, *, sign: bool = False) -> str:
    words = signed if sign else lambda number: f"{number:.3f}"
    span = f"\n[{words(value.low)}, {words(value.high)}]" if np.isfinite([value.low, value.high]).all() else ""
    return f"{words(value.value)}{span}"
