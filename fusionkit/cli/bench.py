"""`fusionkit bench`: how fast is it here?"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusionkit.bench.known import KnownAnswers

app = typer.Typer(no_args_is_help=True)


@app.command()
def training(
    rounds: Annotated[int, typer.Option(min=1, help="how often both loops are timed")] = 30,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
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


@app.command()
def generative(
    rounds: Annotated[int, typer.Option(min=1, help="how often both loops are timed")] = 7,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
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


@app.command()
def features(
    rounds: Annotated[int, typer.Option(min=1, help="how often a batch is timed")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Time the kinds of EEG features against a reference in SciPy and against reading the samples once.

    Windows of 62 channels x 200 samples, float32, on one thread; least processor time of all rounds.

    Example:
        fusionkit bench features
    """
    from dataclasses import asdict

    from fusionkit.bench.features import bench_features
    from fusionkit.cli.output import print_json

    results = bench_features(rounds)
    if as_json:
        print_json([asdict(result) for result in results])
        return
    print("kind       windows/s  one window  reference   ratio  of reading once")
    for result in results:
        print(
            f"{result.kind:9}  {result.windows_per_second:9,.0f}  {result.one_window_us:7.0f} us  "
            f"{result.reference_per_second:9,.0f}  {result.speedup:5.1f} x  {100 * result.of_reading:8.2f} %"
        )


@app.command()
def fusion(
    runs: Annotated[int, typer.Option(min=1, help="how often each number is taken, fewer where it is slow")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Time every fusion operation at batch 1 and 64 with two to four sensors, beside a plain concat and linear layer.

    Streams have 8 steps of 64 numbers; medians of processor time on one thread, in under three minutes. Each cell has
    a number for two, three and four sensors. Ends with 1 where an operation misses its target.

    Example:
        fusionkit bench fusion
    """
    from dataclasses import asdict

    from fusionkit.bench.fusion import bench_fusion, check_targets
    from fusionkit.cli.output import print_json

    def cell(numbers: Iterable[float]) -> str:
        return f"{'/'.join(f'{number:.{2 if number < 10 else 1 if number < 100 else 0}f}' for number in numbers):>18}"

    if not as_json:
        print(f"{'':37}{'forward ms':>20}{'training step ms':>37}{'over concat, batch 64':>36}")
        parts = f"{'batch 1':>18}{'batch 64':>18}" * 2 + f"{'forward':>18}{'step':>18}"
        print(f"{'operation':19}{'1000 parameters':>18}{parts}")
    table = {}
    for kind, times, refused in bench_fusion(runs=runs):
        table[kind] = [asdict(time) for time in times]
        if as_json:
            continue
        one, many = ([time for time in times if time.batch == batch] for batch in (1, 64))
        cells = [cell(time.parameters / 1e3 for time in many)]
        cells += [cell(time.forward_ms for time in group) for group in (one, many)]
        cells += [cell(time.step_ms for time in group) for group in (one, many)]
        cells += [cell(time.forward_ratio for time in many), cell(time.step_ratio for time in many)]
        print(f"{kind:19}{''.join(cells)}" + (f"  ({refused})" if refused else ""), flush=True)
    targets = check_targets(runs)
    if as_json:
        print_json({"operations": table, "targets": [{**asdict(one), "kept": one.kept} for one in targets]})
    else:
        for target in targets:
            said = "pass" if target.kept else "FAIL"
            print(f"{said}  {target.name}: {target.found_ms:.2f} ms, at most {target.limit_ms:g}")
    if not all(target.kept for target in targets):
        raise typer.Exit(1)


@app.command()
def known(
    seed: Annotated[int, typer.Option(min=0, help="of studies and weights")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
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
        for fault in wrong:
            print(f"FAIL  {fault}")
    if wrong:
        raise typer.Exit(1)


def _known_line(row: "KnownAnswers") -> str:
    values = (row.redundant, row.unique, row.xor, row.noise, row.guarded)
    return f"| {row.fusion} | {' | '.join(f'{value:.3f}' for value in values)} |"


@app.command()
def operations(
    recipe: Annotated[str, typer.Argument(help="a shipped recipe or a path")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="changes to the recipe")] = None,
    only: Annotated[str | None, typer.Option(help="operations, with commas [default: all]")] = None,
    task: Annotated[str | None, typer.Option(help="the task that is scored [default: the first]")] = None,
    reference: Annotated[float, typer.Option(help="a score to compare with, of another program")] = float("nan"),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
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


@app.command()
def augmentation(
    recipe: Annotated[str, typer.Argument(help="a shipped recipe or a path")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="changes to the recipe")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="of every stage and of training")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Time the augmentations in every step of a recipe, in its pretraining and its training, by the clock.

    Both are carried out for some epochs on the first fold, and thrown away. Ends with 1 where augmentation takes more
    than a fifth of a step.

    Example:
        fusionkit bench augmentation pretrain_simclr data.path=avmnist_small.npz
    """
    from dataclasses import asdict

    from fusionkit.bench.augmentation import bench_augmentation
    from fusionkit.cli.output import print_json
    from fusionkit.recipe.load import load_recipe

    parts = bench_augmentation(load_recipe(recipe, overrides or ()), epochs=epochs)
    if as_json:
        print_json([{**asdict(part), "kept": part.kept} for part in parts])
    else:
        print(f"{'':16}{'step ms':>9}{'augmentation ms':>17}{'share':>9}{'records/s':>11}{'steps':>7}")
        for part in parts:
            print(
                f"{part.part:16}{part.step_ms:9.2f}{part.augmentation_ms:17.2f}{100 * part.share:7.1f} %"
                f"{part.records_per_second:11,.0f}{part.steps:7}" + ("" if part.kept else "  FAIL")
            )
    if not all(part.kept for part in parts):
        raise typer.Exit(1)


@app.callback()
def bench() -> None:
    """Measure what this is worth here: speed, side by side in one run; and answers that are known."""


@app.command()
def leakage(
    repetitions: Annotated[int, typer.Option(min=2, help="seeds of every protocol")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="the first seed")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Score every split protocol on noise that knows no label: all must be at chance, but a split by smoothed windows.

    One row in 18 exceeds 3 sigma by chance at one first seed in twenty; then more repetitions bring it back. Ends with 1
    where a row is not as it must be.

    Example:
        fusionkit bench leakage
    """
    from dataclasses import asdict

    from rich.table import Table

    from fusionkit.bench.leakage import LIMIT, bench_leakage
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch

    screen = console(stderr=as_json)
    with watch(screen) as listener:
        scores = bench_leakage(repetitions, seed=seed, report=listener.prepare)
    if as_json:
        print_json([{**asdict(score), "expected": score.expected} for score in scores])
    else:
        table = Table("protocol", "features", "accuracy", "chance", "sigma", "units", "deviation in sigma")
        for score in scores:
            numbers = (f"{value:.4f}" for value in (score.accuracy, score.chance, score.sigma))
            said = f"{score.deviation:+.1f}" + ("" if score.honest else ", window-level: leaks by design")
            table.add_row(score.protocol, score.features, *numbers, str(score.units), said)
        screen.print(table)
    wrong = [f"{score.protocol} ({score.features})" for score in scores if not score.expected]
    if wrong:
        screen.print(f"not as it must be within {LIMIT:g} sigma: {', '.join(wrong)}")
        raise typer.Exit(1)
    screen.print(
        f"every protocol within {LIMIT:g} sigma of chance; windows of smoothed trials far above it, as they must be"
    )


@app.command()
def statistics(
    studies: Annotated[int, typer.Option(min=100, help="made comparisons of every design")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="of the studies")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
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


@app.command()
def dials(
    studies: Annotated[int, typer.Option(min=1, help="made studies of every dial")] = 10,
    only: Annotated[str | None, typer.Option(help="dials, with commas [default: all]")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="trainings at once [default: one a processor]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare strategies on made studies whose best one is known: it must be first, and every interval leave out 0.

    Three dials (an XOR of two sensors; one cause in three of them; two sensors that see nothing), about a thousand
    trainings of a second. Ends with 1 where a dial has fewer than nine such studies of ten, or something worse is said
    to beat the best.

    Example:
        fusionkit bench dials --jobs 2
    """
    import os
    from dataclasses import asdict
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from fusionkit.bench.dials import DIALS, Ranked, bench_dials, enough
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.compare.cells.executor import LocalExecutor
    from fusionkit.core.errors import UnknownNameError

    names = only.split(",") if only else list(DIALS)
    for name in names:
        if name not in DIALS:
            raise UnknownNameError("dial", name, DIALS)
    rows: list[Ranked] = []
    with TemporaryDirectory() as folder, watch(console(stderr=True)) as listener:
        executor = LocalExecutor(jobs or os.cpu_count() or 1)
        for row in bench_dials(Path(folder), executor, dials=names, studies=studies, heard=listener.cells):
            if not rows and not as_json:
                print(f"{'dial':11}{'seed':>4}  {'first':18}{'mean':>6}{'least gain':>12}  found")
            rows.append(row)
            if not as_json:
                gain = f"{row.least:12.3f}  {'yes' if row.found else 'NO'}"
                said = "".join(f"; untrue: {one}" for one in row.untrue)
                print(f"{row.dial:11}{row.seed:4}  {row.first:18}{row.means[row.first]:6.3f}{gain}{said}", flush=True)
    kept = {name: enough([row for row in rows if row.dial == name]) for name in names}
    if as_json:
        print_json([{**asdict(row), "found": row.found} for row in rows])
    else:
        for name in names:
            found = sum(row.found for row in rows if row.dial == name)
            print(f"{'pass' if kept[name] else 'FAIL'}  {name}: {found} of {studies}")
    if not all(kept.values()):
        raise typer.Exit(1)


@app.command()
def memory(
    records: Annotated[int, typer.Option(min=80, help="records of the small study")] = 400,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure peak memory of streaming: a study of EEG, and one of ten times the records, ingested and trained.

    Ends with 1 where ten times the records take more than 1.10 times the memory.

    Example:
        fusionkit bench memory
    """
    from dataclasses import asdict

    from fusionkit.bench.memory import bench_memory
    from fusionkit.cli.output import print_json

    result = bench_memory(records)
    if as_json:
        print_json({**asdict(result), "ratio": result.ratio, "record_kb": result.record_kb})
    else:
        for count, signal, peak in zip(result.records, result.signal_mb, result.peak_mb, strict=True):
            print(f"{count:6d} records, {signal:7.1f} MB stored: peak {peak:6.1f} MB of anonymous memory")
        print(f"ratio {result.ratio:.3f}; {result.record_kb:.1f} kB a record more")
    if result.ratio > 1.10:
        raise typer.Exit(1)


@app.command()
def stream(
    hours: Annotated[float, typer.Option(min=0.01, help="of recording")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Push made-up EEG (62 channels, 200 Hz) and sound (16 kHz) through a stream on one thread, as fast as it goes.

    The quick start's fusion behind causal filters decides every second. Ends with 1 where a window is lost, memory
    grows, it is slower than 20 times real time, or a decision takes longer than 3 ms (half of them) or 10 ms (99 in 100)
    from its last samples.

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
            f"p50 {result.processor_p50_ms:.2f} ms, p99 {result.processor_p99_ms:.2f} ms; ONNX Runtime alone, caches "
            f"warm, p50 {result.graph_p50_ms:.2f} ms"
        )
        print(f"memory {result.memory_mb[0]:.1f} MB after a tenth, {result.memory_mb[1]:.1f} MB at the end")
        for fault in result.faults:
            print(f"FAIL  {fault}")
    if result.faults:
        raise typer.Exit(1)


@app.command()
def runtime(
    bundle: Annotated[Path, typer.Argument(help="what `fusionkit export` wrote")],
    rounds: Annotated[int, typer.Option(min=20, help="how often a window is asked")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
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
        for fault in result.faults:
            print(f"FAIL  {fault}")
    if result.faults:
        raise typer.Exit(1)
