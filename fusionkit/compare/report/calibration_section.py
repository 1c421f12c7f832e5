"""The part of a comparison's page about probabilities: whether they mean what they say, and what calibration gives."""

from collections.abc import Iterator
from html import escape

import numpy as np

from fusionkit.compare.findings.calibrated import MEASURED, Calibrated, Calibration, sentence
from fusionkit.evaluation import html
from fusionkit.evaluation.comparison_plots import abstention
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.plots import reliability, svg_text


def calibration_section(calibration: Calibration) -> Iterator[str]:
    """What one task's strategies promise and hold, with what was fitted on groups that nothing else saw."""
    yield "<h3>Calibration</h3>"
    if calibration.note:
        yield f'<p class="note">{escape(calibration.note)}</p>'
    else:
        yield (
            f"<p class='muted'>Temperatures and sets were fitted in each fold and seed to {escape(calibration.by)}s that "
            f"neither training nor early stopping saw; arrows go from what was trained to what is calibrated. Coverage is "
            f"what was measured on {calibration.groups} new {escape(calibration.by)}s, not a promise for others.</p>"
        )
    fitted = not calibration.note
    lines = [
        ([one.strategy, *(_measure(one, metric) for metric in MEASURED), *_warmth(one)], False)
        for one in calibration.strategies
    ]
    yield html.table(["strategy", *MEASURED, *(["temperature"] if fitted else [])], lines)
    if fitted:
        yield (
            "<ul>"
            + "".join(f"<li>{escape(sentence(one, calibration))}</li>" for one in calibration.strategies)
            + "</ul>"
        )
        words = (
            "lac takes all classes that are probable enough, aps the most probable ones until they reach a bar: of two "
            "classes both, wherever more mistakes are made than the level allows."
        )
        sets = f"<p class='muted'>{words}</p>{_sets(calibration)}"
        yield f"<details><summary>sets of classes</summary>{sets}</details>"
        by = f"every {calibration.by}"
        yield f"<details><summary>coverage of {escape(by)}</summary>{_by_group(calibration)}</details>"
    curves = {one.strategy: one.abstention for one in calibration.strategies}
    yield html.figure(svg_text(abstention(curves)), "mistakes among the surest answers, all seeds")
    parts = [
        ([one.strategy, *(_number(getattr(one.parts, part)) for part in PARTS)], False)
        for one in calibration.strategies
    ]
    yield f"<details><summary>parts of the Brier score</summary>{html.table(['strategy', *PARTS], parts)}</details>"
    drawn = [
        html.figure(svg_text(reliability(one.probabilities, one.target)), one.strategy)
        for one in calibration.strategies
    ]
    yield f"<details><summary>reliability{', calibrated' if fitted else ''}</summary>{''.join(drawn)}</details>"


PARTS = ("score", "reliability", "resolution", "uncertainty", "within")


def _measure(one: Calibrated, metric: str) -> str:
    if not one.after:
        return _span(one.before[metric])
    gained = one.gained[metric]
    return f"{_number(one.before[metric].value)} → {_number(one.after[metric].value)}\ngain {_span(gained).replace(chr(10), ' ')}"


def _warmth(one: Calibrated) -> list[str]:
    """The middle one of all folds and seeds, and the ends."""
    found = one.temperatures
    return [f"{np.median(found):.2f}\n{min(found):.2f} to {max(found):.2f}"] if found else []


def _sets(calibration: Calibration) -> str:
    lines = []
    for one in calibration.strategies:
        for kind, found in one.sets.items():
            records = [bar.records for bar in one.thresholds[kind]]
            none = sum(not np.isfinite(bar.threshold) for bar in one.thresholds[kind])
            cells = [
                f"{one.strategy}\n{kind}",
                _span(found.coverage),
                _span(found.size, 2),
                f"{100 * found.single:.0f} %",
            ]
            cells += [f"{100 * found.empty:.0f} %", f"{min(records)} to {max(records)}", f"{none} of {len(records)}"]
            lines.append((cells, False))
    header = [
        "strategy",
        "coverage",
        "classes in a set",
        "of one class",
        "empty",
        "records",
        "too few records for a bar",
    ]
    return html.table(header, lines)


def _by_group(calibration: Calibration) -> str:
    groups = list(calibration.strategies[0].sets["lac"].by_subject)
    lines = []
    for group in groups:
        held = [one.sets["lac"].by_subject[group] for one in calibration.strategies]
        lines.append(([group, *(f"{share:.2f}\n{size:.1f} classes" for share, size in held)], False))
    return html.table([calibration.by, *(one.strategy for one in calibration.strategies)], lines)


def _span(value: Interval, places: int = 3) -> str:
    ends = [value.low, value.high]
    span = f"\n[{_number(value.low, places)}, {_number(value.high, places)}]" if np.isfinite(ends).all() else ""
    return f"{_number(value.value, places)}{span}"


def _number(value: float, places: int = 3) -> str:
    """Without the sign of a number that is 0 in so many places."""
    return f"{round(value, places) + 0.0:.{places}f}"
