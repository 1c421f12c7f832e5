"""Look at data, make a study file of them, and see how they would be split.

Example:
    fusionkit data inspect lab/manifest.csv
    fusionkit data ingest manifest data.path=lab/manifest.csv -o lab.h5
    fusionkit data split manifest data.path=lab/manifest.csv
"""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli.options import Json, Overrides, Recipe

app = typer.Typer(no_args_is_help=True)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="a folder, table, archive, study or recording")],
    plot: Annotated[Path | None, typer.Option(help="draw a window of every sensor: .png, .svg or .pdf")] = None,
    as_json: Json = False,
) -> None:
    """Say what a folder, a table, an archive, a study or any other file holds.

    Example:
        fusionkit data inspect lab/manifest.csv
        fusionkit data inspect lab.h5 --plot lab.png
    """
    from fusionkit.cli.facts import plain_facts, print_facts
    from fusionkit.cli.output import check_output, console, print_json
    from fusionkit.data.inspect import inspect as look

    screen = console(stderr=as_json)
    check_output(plot, "--plot")
    facts = look(path)
    if plot is not None:
        from fusionkit.evaluation.windows import plot_facts

        plot_facts(facts, plot)
    if as_json:
        print_json(plain_facts(facts))
    else:
        print_facts(screen, facts)
    if plot is not None:
        screen.print(f"wrote {plot}")


@app.command()
def ingest(
    recipe: Recipe,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="where the study goes, an .h5 file")] = Path(
        "study.h5"
    ),
    workers: Annotated[int | None, typer.Option(min=0, help="processes that read files (data.workers)")] = None,
    as_json: Json = False,
) -> None:
    """Read a recipe's data once, check them, and keep signals and labels in one file.

    Train from it with `data.kind=study data.path=FILE`. After a kill, the same command goes on where it was.

    Example:
        fusionkit data ingest manifest data.path=lab/manifest.csv -o lab.h5
    """
    from fusionkit.cli.facts import plain_facts, print_facts
    from fusionkit.cli.output import check_output, console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.data.inspect import inspect as look
    from fusionkit.recipe.load import load_recipe
    from fusionkit.training.material import ingest_study

    chosen = [] if workers is None else [f"data.workers={workers}"]
    read = load_recipe(recipe, [*(overrides or ()), *chosen])
    screen = console(stderr=as_json)
    check_output(output)
    with watch(screen) as listener:
        study = ingest_study(read, output, report=listener.prepare)
    facts = look(study.path)
    if as_json:
        print_json(plain_facts(facts))
    else:
        print_facts(screen, facts)
    screen.print(f"wrote {output}")


@app.command()
def split(
    recipe: Recipe,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="also write the split, a .json file")] = None,
    as_json: Json = False,
) -> None:
    """Split a recipe's data and say what every part of every fold holds; signal on two sides is refused.

    Of training records, labels that data.labels hides count as missing. The records of data.unlabelled that a fold may see
    are told apart from its training records.

    Example:
        fusionkit data split manifest data.path=lab/manifest.csv data.split.folds=5
    """
    from fusionkit.cli.facts import plain_facts, print_parts
    from fusionkit.cli.output import check_output, console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.core.errors import located
    from fusionkit.data.guard import check_straddling
    from fusionkit.evaluation.parts import describe_split, untrainable
    from fusionkit.recipe.load import load_recipe
    from fusionkit.training.labels import hide_labels, label_notes, labelled_rows
    from fusionkit.training.material import open_study
    from fusionkit.training.records import (
        add_unlabelled,
        divide,
        learn_tasks,
        notes_of_unlabelled,
        read_records,
    )

    read = load_recipe(recipe, overrides or ())
    screen = console(stderr=as_json)
    check_output(output)
    records = read_records(read)
    made = add_unlabelled(read, divide(read, records), records)
    tasks, targets = learn_tasks(read, records)
    left, kept = [], {}
    for number, fold in enumerate(made.folds):
        with located(f"fold {number}"):
            left.append(hide_labels(read, records, tasks, targets, fold.train, number))
        kept[number] = int(labelled_rows(left[-1], fold.train).sum())
    with watch(screen) as listener:
        study = open_study(read, listener.prepare)
    with located("data.split"):
        notes = check_straddling(made, study, read.data.allow_leakage)
    parts = describe_split(made, records, tasks, left)
    notes += [*label_notes(read, made, kept, kept), *notes_of_unlabelled(read, made, study)]
    notes += [f"{line}; training would refuse this" for line in untrainable(made, tasks, left)]
    if as_json:
        options = made.options.model_dump(exclude_none=True)
        print_json({"options": options, "digest": made.digest, "parts": plain_facts(parts), "notes": notes})
    else:
        print_parts(screen, made, parts, list(tasks))
        for note in notes:
            screen.print(f"note: {note}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        made.save(output)
        screen.print(f"wrote {output}")
