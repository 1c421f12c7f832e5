"""What a stage of pretraining cannot do, as far as a recipe alone tells: before data are read and a folder is made."""

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import nn

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.levels import FeatureShape
from fusionkit.recipe.build import encoded
from fusionkit.recipe.sections import Recipe

EMBEDDED = FeatureShape(8, 1, timed=False, trains=True)
"""Words of a sentence as an encoder of features gets them; how wide they are changes nothing of what it sees."""


def refuse_stages(recipe: Recipe) -> Iterator[tuple[int, int, str]]:
    """Every objective that can learn nothing from its stage: the stage's number, the objective's, and why."""
    if not recipe.pretrain:
        return
    known = [name for name in recipe.graph.modalities if name in encoded(recipe.graph)]
    holds = {name: registry.modalities.get(recipe.modalities[name].kind).holds for name in known}
    levels, encoders = {}, {}
    for name in known:
        chosen = recipe.modalities[name].encoder
        assert chosen is not None  # filled in when the recipe was read
        levels[name] = registry.encoders.get(chosen.kind).level
        if holds[name] == "text" and levels[name] == "features":
            with suppress(ConfigError), torch.random.fork_rng(devices=[]):
                made: nn.Module = registry.encoders.build(chosen.kind, chosen.options, EMBEDDED, recipe.graph.dim)
                encoders[name] = made
    tasks = [name for name, entry in recipe.tasks.items() if registry.heads.get(entry.kind).outcome == "probabilities"]
    for place, stage in enumerate(recipe.pretrain):
        for number, entry in enumerate(stage.objectives):
            objective = registry.objectives.get(entry.kind)
            try:
                objective.foresee(entry.options, stage.encoders, recipe.graph.dim, levels, holds, tasks, encoders)
            except (ConfigError, UnknownNameError) as error:
                yield place, number, str(error)
