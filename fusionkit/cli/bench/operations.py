"""`fusionkit bench operations`: which fusion operation suits a recipe, and is it as good as the best sensor alone?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json, Overrides, Recipe


def operations(
    recipe: Recipe,
    overrides: Overrides = None,
    only: Annotated[str | None, typer.Option(help="operations, with commas [default: all]")] = None,
    task: Annotated[str | None, typer.Option(help="the task that is scored [default: the first]")] = None,
    reference: Annotated[float, typer.Option(help="a score to compare with, of another program")] = float("nan"),
    as_json: Json = False,
) -> None:
    """Train a recipe with every fusion operation in turn, beside every sensor alone; validation chooses, test judges.

    Finished trainings are taken up again. Ends with 1 where the operation that validation chose is more than one
    standard error over groups below the best single sensor, or below the reference.

    Example:
        fusionkit bench operations avmnist data.path=avmnist_small.npz --reference 0.960
    """
    from dataclasses import asdict

    from fusionkit.bench.operations import Refused, Scored, bench_operations, choose
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.recipe.load import load_recipe

    read = load_recipe(recipe, overrides or ())
    task = task or next(iter(read.tasks))
    names = only.split(",") if only else None
    rows: list[Scored | Refused] = []
    with watch(console(stderr=True)) as listener:
        for row in bench_operations(recipe, overrides or (), names=names, task=task, listener=listener):
            if not rows and not as_json:
                print(f"{'model':22}{'validation':>11}{'test':>8}{'error':>8}{'seconds':>9}")
            rows.append(row)
            if as_json:
                continue
            if isinstance(row, Refused):
                print(f"{row.name:22}refused: {row.reason}", flush=True)
            else:
                print(
                    f"{row.name:22}{row.validation:11.3f}{row.test:8.3f}{row.error:8.3f}{row.seconds:9.1f}", flush=True
                )
    choice = choose(read, task, [row for row in rows if isinstance(row, Scored)], reference)
    if as_json:
        print_json({"rows": [asdict(row) for row in rows], "choice": {**asdict(choice), "kept": choice.kept}})
    else:
        print(
            f"validation chose {choice.fused.name}: {choice.fused.test:.3f}; {choice.single.name}: {choice.single.test:.3f}"
        )
        print(f"{'pass' if choice.kept else 'FAIL'}  it must reach {choice.least:.3f}")
    if not choice.kept:
        raise typer.Exit(1)
