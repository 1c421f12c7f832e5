"""`fusionkit bench statistics`: how often does a comparison find a winner where there is none?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json


def statistics(
    studies: Annotated[int, typer.Option(min=100, help="made comparisons of every design")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="of the studies")] = 0,
    as_json: Json = False,
) -> None:
    """Count how often a comparison finds a winner where there is none, after Holm's correction over all pairs.

    The test that decides, on 4 to 8 strategies, 8 to 30 subjects, one fold or 4 to 10; then every test that is shown beside
    it, by what the trainings of a fold share. Ends with 1 where the first is wrong more often than a test at 5 % may be,
    with 99 % confidence. Half a minute.

    Example:
        fusionkit bench statistics
    """
    from dataclasses import asdict

    from fusionkit.bench.null_levels import SHARED, bench_levels, bench_others
    from fusionkit.cli.output import print_json
    from fusionkit.evaluation.statistics.null_study import upper_bound

    bound, levels, others = upper_bound(studies), [], []
    if not as_json:
        heads = ("no luck", "luck 0.02", "luck 0.04", "10 records")
        print(f"strategies  folds  subjects{''.join(f'{head:>12}' for head in heads)}")
    for level in bench_levels(studies, seed):
        levels.append(level)
        if not as_json and len(levels) % 4 == 0:
            design, row = level.design, (one.wrong for one in levels[-4:])
            print(f"{design.strategies:10}{design.folds:7}{design.subjects:10}{''.join(f'{x:12.4f}' for x in row)}")
    worst = max(level.wrong for level in levels)
    if not as_json:
        print(f"{'pass' if worst <= bound else 'FAIL'}  at most {worst:.4f}; the bound is {bound:.4f}")
        print(f"\nwhat trainings share{''.join(f'{head:>30}' for head in SHARED)}")
    for level in bench_others(studies, seed):
        others.append(level)
        if not as_json and len(others) % len(SHARED) == 0:
            print(f"{level.test:27}{''.join(f'{one.wrong:<30.4f}' for one in others[-len(SHARED) :])}".rstrip())
    if as_json:
        print_json(
            {"bound": bound, "levels": [asdict(one) for one in levels], "others": [asdict(one) for one in others]}
        )
    if worst > bound:
        raise typer.Exit(1)
