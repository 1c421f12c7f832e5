"""The page of a study of augmenters: verdict, table, sweep, quality, settings."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from fusionkit.compare.augmentation.augmenting import Augmentation
from fusionkit.compare.augmentation.gains import PERCENT, Compared, Found, called, judged_by, say, signed, warnings
from fusionkit.compare.augmentation.quality import quality_parts
from fusionkit.compare.augmentation.scores import NONE
from fusionkit.compare.augmentation.sweep import draw_sweep
from fusionkit.evaluation import html, plots
from fusionkit.evaluation.paired import Gain
from fusionkit.training.checkpoint import write_atomically


def write_page(made: Augmentation, found: Sequence[Found]) -> Path:
    """Write the page of a study and return its path."""
    path = made.folder / "report.html"
    write_atomically(path, build_page(made, found).encode())
    return path


def build_page(made: Augmentation, found: Sequence[Found]) -> str:
    """The page as HTML; it needs no network."""
    facts, name = made.facts, made.recipe.name
    environment = json.loads((made.folder / "environment.json").read_text(encoding="utf-8"))
    scores = made.scores
    folds, seeds = len({score.fold for score in scores}), len({score.seed for score in scores})
    how = f"{folds} of {facts['folds']} folds, {seeds} seed{'s' if seeds > 1 else ''}; single results in results.csv"
    body = [
        f"<h1>{escape(name)}: augmentation</h1>",
        f'<p class="muted">{escape(str(made.folder))}, fusionkit {escape(environment["fusionkit"])}; {how}</p>',
        *(f'<p class="lead">{escape(line)}</p>' for one in found for line in one.sentences),
        *(f'<p class="note">{escape(note)}</p>' for note in facts["notes"]),
        *(part for one in found for part in (*_sensor(one), *quality_parts(made, one))),
        "<h2>Settings</h2>",
        f"<details><summary>recipe.yaml</summary><pre>{escape((made.folder / 'recipe.yaml').read_text())}</pre></details>",
        html.versions(environment, facts),
    ]
    return html.page(f"{name}: augmentation", body)


def _sensor(found: Found) -> Iterator[str]:
    yield f"<h2>{escape(found.sensor)}</h2>"
    yield from (f'<p class="note">{escape(note)}</p>' for note in found.notes)
    yield (
        f"<h3>At {found.add:g} times</h3><p>Scores of real test records, means over folds and seeds. A gain is over no "
        f"augmentation on the same folds and seeds, with its {PERCENT} interval over folds (corrected for training parts "
        f"that overlap); an interval that covers 0 is no gain.</p>"
    )
    yield _table(found)
    amounts = {one.amount for one in found.compared if one.strategy != NONE}
    if len(amounts) > 1:
        yield "<h3>Sweep</h3>"
        drawn = plots.svg_text(draw_sweep(found.compared, found.kind, found.metric))
        yield html.figure(
            drawn,
            f"{found.sensor}: gain on test records against the amount appended; copies are drawn without interval",
        )
        yield _choice(found)
        yield f"<details><summary>every amount</summary>{_amounts(found)}</details>"
    yield from (f'<p class="note">{escape(line)}</p>' for line in warnings(found.compared))


def _table(found: Found) -> str:
    """Strategies at the recipe's amount, a pair of columns a judge."""
    judges = list(dict.fromkeys(one.judge for one in found.compared))
    shown = [one for one in found.compared if one.strategy == NONE or one.amount == found.add]
    lines = []
    for strategy in dict.fromkeys(one.strategy for one in shown):
        cells = [_name(strategy, found, [one for one in shown if one.strategy == strategy])]
        for judge in judges:
            one = next((one for one in shown if (one.strategy, one.judge) == (strategy, judge)), None)
            cells += ["", ""] if one is None else [f"{one.score:.3f}", "" if strategy == NONE else _gain(one.gain)]
        lines.append((cells, strategy == found.use))
    unit = found.metric.replace("_", " ")
    header = ["training records", *(text for judge in judges for text in (f"{judged_by(judge)}: {unit}", "gain"))]
    return html.table(header, lines)


def _name(strategy: str, found: Found, shown: Sequence[Compared]) -> str:
    if strategy == NONE:
        return called(strategy, found.kind)
    wanted, appended = (max(getattr(one, name) for one in shown) for name in ("wanted", "appended"))
    few = f" of {wanted:.0f} wanted" if appended < wanted else ""
    return f"{called(strategy, found.kind)}\n{appended:.0f} appended{few}"


def _gain(gain: Gain) -> str:
    if np.isnan(gain.value):
        return ""
    if gain.note:
        return f"{signed(gain.value)}\n{gain.note}"
    return f"{signed(gain.value)}, {gain.finding}\n[{signed(gain.low)}, {signed(gain.high)}]"


def _choice(found: Found) -> str:
    """The amount that validation likes best, and what it brings where every fold chooses for itself."""
    told = "No amount is chosen on test records: the peak of a curve above is the luck of its test records, too."
    if not found.chosen:
        return f"<p>{told} Nothing validates here, so that none can be recommended.</p>"
    lines = []
    for one in found.chosen:
        lines.append(
            (
                [
                    f"{called(one.strategy, found.kind)}\n{judged_by(one.judge)}",
                    f"{one.amount:g}",
                    " ".join(f"{amount:g}" for amount in one.by_fold),
                    _gain(one.gain),
                ],
                one.strategy == found.use,
            )
        )
    best = next((one for one in found.chosen if one.strategy == found.use), found.chosen[0])
    what = f"{called(best.strategy, found.kind)} at the amount that each fold chose"
    header = ["strategy", "best amount on validation", "each fold's own", "gain on test of each fold's own"]
    return (
        f"<p>{told} Validation records choose (0 among the amounts): {escape(judged_by(best.judge))}, "
        f"{escape(say(best.gain, what, found.metric))}.</p>{html.table(header, lines)}"
    )


def _amounts(found: Found) -> str:
    lines = [
        (
            [
                f"{called(one.strategy, found.kind)}\n{judged_by(one.judge)}",
                f"{one.amount:g}",
                f"{one.appended:.0f}",
                "" if np.isnan(one.validation) else f"{one.validation:.3f}",
                f"{one.score:.3f}",
                "" if one.strategy == NONE else _gain(one.gain),
            ],
            (one.strategy, one.amount) == (found.use, found.add),
        )
        for one in found.compared
    ]
    return html.table(["strategy", "amount", "appended", "validation", "test", "gain on test"], lines)
