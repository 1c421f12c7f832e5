"""The verb of all benches, in the order of its help."""

import typer

from fusionkit.cli.bench.augmentation import augmentation
from fusionkit.cli.bench.dials import dials
from fusionkit.cli.bench.features import features
from fusionkit.cli.bench.fusion import fusion
from fusionkit.cli.bench.generative import generative
from fusionkit.cli.bench.known import known
from fusionkit.cli.bench.leakage import leakage
from fusionkit.cli.bench.memory import memory
from fusionkit.cli.bench.operations import operations
from fusionkit.cli.bench.runtime import runtime
from fusionkit.cli.bench.statistics import statistics
from fusionkit.cli.bench.stream import stream
from fusionkit.cli.bench.training import training

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure what this is worth here: speed, side by side in one run; and answers that are known."""


BENCHES = (
    training,
    generative,
    features,
    fusion,
    known,
    operations,
    augmentation,
    leakage,
    statistics,
    dials,
    memory,
    stream,
    runtime,
)
for one in BENCHES:
    app.command()(one)
