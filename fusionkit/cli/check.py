"""`fusionkit check`: is this recipe sound?"""

from fusionkit.cli.options import Overrides, Recipe


def check(
    recipe: Recipe,
    overrides: Overrides = None,
) -> None:
    """Read a recipe and report everything that is wrong with it, without touching data or a device.

    Example:
        fusionkit check my.yaml fusion.kind=rcft
    """
    from fusionkit.recipe.load import load_recipe

    found = load_recipe(recipe, overrides or (), complete=False)
    print(f"{found.file}: ok")
    if found.data.unlabelled is not None:
        print(f"data.unlabelled: {found.data.unlabelled.told()}")
    print(f"sensors: {', '.join(f'{name} ({entry.kind})' for name, entry in found.modalities.items())}")
    print(f"fusion: {', '.join(f'{node.name} ({node.kind}, {node.level})' for node in found.graph.nodes)}")
    print(f"tasks: {', '.join(f'{name} ({entry.kind})' for name, entry in found.tasks.items())}")
    for name, entry in found.generators.items():
        kept = (
            ""
            if entry.keep is None
            else f", kept where the {entry.keep.model} is sure by {entry.keep.min_confidence:g}"
        )
        print(f"augment.{name}: {entry.kind} appends {entry.add:g} records for a training record by {entry.task}{kept}")
    for place, stage in enumerate(found.pretrain):
        kinds = ", ".join(entry.kind for entry in stage.objectives)
        print(f"pretrain.{place}: {kinds} for {stage.epochs} epochs, encoders of {', '.join(stage.encoders)}")
    if found.init.from_ is not None:
        print(f"init: encoders of {found.init.from_}")
    for key in found.open:
        print(f"to give on the command line: {key}=VALUE")
