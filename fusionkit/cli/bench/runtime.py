"""`fusionkit bench runtime`: what does a prediction cost over its graph here?"""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli.bench.shared import end
from fusionkit.cli.options import Json


def runtime(
    bundle: Annotated[Path, typer.Argument(help="what `fusionkit export` wrote")],
    rounds: Annotated[int, typer.Option(min=20, help="how often a window is asked")] = 1000,
    as_json: Json = False,
) -> None:
    """Time a bundle's predictions against ONNX Runtime's own time for its graph, and a fresh process to its first answer.

    One window of all sensors, one thread. Ends with 1 where a prediction takes more than 1.3 times its graph, in
    processor time, or the first answer more than a second.

    Example:
        fusionkit bench runtime model.fusion
    """
    from dataclasses import asdict

    from fusionkit.bench.runtime import bench_runtime
    from fusionkit.cli.output import print_json

    result = bench_runtime(bundle, rounds)
    if as_json:
        print_json({**asdict(result), "overhead": result.overhead, "faults": result.faults})
    else:
        print(
            f"a window takes {result.session_ms:.2f} ms of the processor, its graph {result.graph_ms:.2f}: "
            f"{result.overhead:.2f} times; by the clock p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms"
        )
        print(f"import and first answer take {result.first_s:.2f} s of the processor")
    end(result.faults, told=as_json)
