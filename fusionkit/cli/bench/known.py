"""`fusionkit bench known`: do fusions find what is known, and only that?"""

from typing import TYPE_CHECKING, Annotated

import typer

from fusionkit.cli.bench.shared import end
from fusionkit.cli.options import Json

if TYPE_CHECKING:
    from fusionkit.bench.known import KnownAnswers


def known(
    seed: Annotated[int, typer.Option(min=0, help="of studies and weights")] = 0,
    as_json: Json = False,
) -> None:
    """Train fusions on studies with a known answer: redundant, unique, XOR, and noise in place of a sensor at test.

    Fusions that add logits must stay near chance on XOR, those that see sensors together must solve it; with noise,
    after training with modality dropout and sensor corruption (guarded), none may fall more than 0.03 under a sensor
    alone. Prints a table in Markdown, in minutes; ends with 1 where a row is not as it must be.

    Example:
        fusionkit bench known
    """
    from dataclasses import asdict

    from fusionkit.bench.known import bench_known, best_possible, sensor_alone
    from fusionkit.cli.output import print_json

    remaining, rows, wrong = sensor_alone(seed), [], []
    if not as_json:
        print("| fusion | redundant | unique | xor | noise | noise, guarded |\n|---|---|---|---|---|---|")
    for row in bench_known(seed=seed):
        rows.append({**asdict(row), "faults": row.faults(remaining)})
        wrong += [f"{row.fusion}: {fault}" for fault in row.faults(remaining)]
        if not as_json:
            print(_known_line(row), flush=True)
    if as_json:
        print_json({"rows": rows, "best_possible": asdict(best_possible()), "sensor_alone": remaining})
    else:
        print(_known_line(best_possible()))
        print(f"\nThe best sensor alone that gives no noise: {remaining:.3f}")
    end(wrong, told=as_json)


def _known_line(row: "KnownAnswers") -> str:
    values = (row.redundant, row.unique, row.xor, row.noise, row.guarded)
    return f"| {row.fusion} | {' | '.join(f'{value:.3f}' for value in values)} |"
