"""`fusionkit bench stream`: does a stream keep up here?"""

from typing import Annotated

import typer

from fusionkit.cli.bench.shared import end
from fusionkit.cli.options import Json


def stream(
    hours: Annotated[float, typer.Option(min=0.01, help="of recording")] = 0.05,
    as_json: Json = False,
) -> None:
    """Push made-up EEG (62 channels, 200 Hz) and sound (16 kHz) through a stream on one thread, as fast as it goes.

    The quick start's fusion behind causal filters decides every second. Ends with 1 where a window is lost, memory
    grows, it is slower than 20 times real time, or a decision takes longer than 3 ms (half of them) or 10 ms (99 in 100)
    from its last samples, or more processor time than 1.3 times its graph.

    Example:
        fusionkit bench stream --hours 1
    """
    from dataclasses import asdict
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from fusionkit.bench.stream import bench_stream, train_on_noise
    from fusionkit.cli.output import print_json
    from fusionkit.export.run import export_run

    with TemporaryDirectory(prefix="fusionkit-stream-") as folder:
        exported = export_run(train_on_noise(Path(folder)), Path(folder) / "model.fusion")
        result = bench_stream(exported.path, hours)
    if as_json:
        print_json({**asdict(result), "speed": result.speed, "faults": result.faults})
    else:
        print(
            f"{result.hours:g} h in {result.seconds:.1f} s: {result.speed:.1f} times real time, "
            f"{result.decisions} decisions, {result.lost} lost"
        )
        print(
            f"raw to decision p50 {result.lag_p50_ms:.2f} ms, p99 {result.lag_p99_ms:.2f} ms; processor time "
            f"p50 {result.processor_p50_ms:.2f} ms, p99 {result.processor_p99_ms:.2f} ms, "
            f"{result.overhead:.2f} times ONNX Runtime's {result.graph_p50_ms:.2f} ms for the graph (caches warm, by the "
            f"clock: {result.warm_p50_ms:.2f} ms)"
        )
        print(f"memory {result.memory_mb[0]:.1f} MB after a tenth, {result.memory_mb[1]:.1f} MB at the end")
    end(result.faults, told=as_json)
