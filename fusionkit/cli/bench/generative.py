"""`fusionkit bench generative`: how much slower than plain torch is training a generator here?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json


def generative(
    rounds: Annotated[int, typer.Option(min=1, help="how often both loops are timed")] = 7,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    as_json: Json = False,
) -> None:
    """Time an epoch of cwgan_gp against a bare loop of plain torch (1,280 records of 310 features, one thread).

    Ends with 1 where it takes more than 1.15 times as long.

    Example:
        fusionkit bench generative
    """
    from dataclasses import asdict

    from fusionkit.bench.generative import TARGET, bench_generative
    from fusionkit.cli.output import print_json
    from fusionkit.training.device import pick_device

    result = bench_generative(rounds, device=str(pick_device(device, "--device")))
    if as_json:
        print_json(asdict(result))
    else:
        print(f"bare loop  {result.bare_ms:8.1f} ms an epoch (median of {rounds} rounds)")
        print(f"training   {result.training_ms:8.1f} ms an epoch")
        print(f"ratio      {result.ratio:8.2f} (median of {rounds} pairs)")
    if result.ratio > TARGET:
        raise typer.Exit(1)
