"""What an export measured, as tables for the terminal."""

from rich.console import Console
from rich.table import Table

from fusionkit.evaluation.intervals import Interval
from fusionkit.export.int8 import Quantised
from fusionkit.export.parity import Parity


def print_parity(screen: Console, parity: Parity) -> None:
    """The largest difference from torch of every output and size of batch, and the subset of sensors where it was."""
    table = Table(title="differences from torch, relative to 1 or the answer if larger", title_justify="left")
    table.add_column("output")
    for column in ("batch", "cases", "largest"):
        table.add_column(column, justify="right")
    table.add_column("worst with")
    for row in parity.rows:
        table.add_row(row.output, str(row.batch), str(row.cases), f"{row.largest:.1e}", ", ".join(row.sensors))
    screen.print(table)


def print_quantised(screen: Console, quantised: Quantised) -> None:
    """Scores as float32 and as int8, with their paired difference; size and time."""
    what = ", ".join(f"{count} {kind}" for kind, count in quantised.operators.items())
    title = f"int8: {what}; {quantised.records} held-out records"
    table = Table("task", "metric", title=title, title_justify="left")
    for column in ("float32", "int8", "difference [95 % over subjects]"):
        table.add_column(column, justify="right")
    for task, found in quantised.scores.items():
        for metric, change in found.items():
            table.add_row(task, metric.replace("_", " "), *map(_said, vars(change).values()))
    screen.print(table)
    before, after = quantised.latency
    screen.print(
        f"graph {quantised.bytes[0] / 1e6:.2f} MB as float32, {quantised.bytes[1] / 1e6:.2f} MB as int8; one window p50 "
        f"{before.p50:.2f} and {after.p50:.2f} ms, p99 {before.p99:.2f} and {after.p99:.2f} ms"
    )


def _said(interval: Interval) -> str:
    span = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval.low == interval.low else ""
    return f"{interval.value:.3f}{span}"
