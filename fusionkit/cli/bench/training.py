"""`fusionkit bench training`: how much slower than plain torch is the engine here?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json


def training(
    rounds: Annotated[int, typer.Option(min=1, help="how often both loops are timed")] = 30,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    as_json: Json = False,
) -> None:
    """Time the engine against a bare loop of plain torch (64 x 310 batches, two-layer perceptron, one thread).

    Example:
        fusionkit bench training
    """
    from fusionkit.bench.training import bench_training
    from fusionkit.cli.output import print_json
    from fusionkit.training.device import pick_device

    result = bench_training(rounds, device=str(pick_device(device, "--device")))
    if as_json:
        print_json({"bare_us": result.bare_us, "engine_us": result.engine_us, "overhead": result.overhead})
        return
    print(f"bare loop  {result.bare_us:7.1f} us a step (least of {rounds} rounds)")
    print(f"engine     {result.engine_us:7.1f} us a step")
    print(f"overhead   {100 * result.overhead:7.1f} % (median of {rounds} pairs)")
