"""`fusionkit bench augmentation`: which share of a step does augmentation take here?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json, Overrides, Recipe


def augmentation(
    recipe: Recipe,
    overrides: Overrides = None,
    epochs: Annotated[int, typer.Option(min=1, help="of every stage and of training")] = 2,
    as_json: Json = False,
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
