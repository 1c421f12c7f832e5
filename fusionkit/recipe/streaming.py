"""What a stream cannot do: look ahead, know all records of a person, or carry smoothing from window to window."""

from collections.abc import Iterator

from fusionkit.core import registry
from fusionkit.core.modality import Modality
from fusionkit.data.smoothing import NoSmoothing
from fusionkit.recipe.problem import Key, dotted
from fusionkit.recipe.sections import ModalityEntry, Recipe

INPUT_ENDINGS = ("", "_present", "_length", "_shift", "_scale")
"""Of what a graph takes of a sensor, behind the sensor's name."""
OWN_OUTPUTS = ("features", "mask", "vector", "real")
"""What the graphs of single sensors give."""


def refuse_streams(recipe: Recipe) -> Iterator[tuple[Key, str]]:
    """Every key of a recipe that a stream cannot follow, and why; for ``export.streaming``."""
    for name, entry in recipe.modalities.items():
        modality: Modality = registry.modalities.build(entry.kind, entry.options)
        key: Key = ("modalities", name)
        for finding in modality.ahead():
            yield key, f"must be causal where export.streaming is true, but {finding}"
        smooth = _smooth(entry)
        if smooth is not None:
            yield (*key, *smooth[0]), smooth[1]
        if entry.align.kind != "none" and entry.align.seconds is None:
            what = "a stream is aligned by its first seconds, not by all records of a person"
            yield (*key, "align", "seconds"), f"must be given where export.streaming is true: {what}"
        if entry.normalise.kind in ("subject", "recording"):
            what = f"a stream does not know all records of a {entry.normalise.kind}"
            yield (
                (*key, "normalise", "kind"),
                f"must be calibration, training or none where export.streaming is true: {what}",
            )


def refuse_bundles(recipe: Recipe) -> str | None:
    """Why no bundle can be made of a recipe: the first key that forbids it; None where one can."""
    for name, entry in recipe.modalities.items():
        smooth = _smooth(entry)
        if smooth is not None:
            return f"{dotted(('modalities', name, *smooth[0]))}: {smooth[1]}"
    return _taken_name(recipe)


def _taken_name(recipe: Recipe) -> str | None:
    """A name that a bundle would need twice: of its files, whatever the case, or of what its graphs take and give."""
    taken = set(OWN_OUTPUTS)
    for section, entries in (("modalities", recipe.modalities), ("tasks", recipe.tasks)):
        for name in entries:
            needed = {f"{name}{ending}".lower() for ending in (INPUT_ENDINGS if section == "modalities" else ("",))}
            if needed & taken:
                return (
                    f"{section}.{name}: must have another name in a bundle, which needs {min(needed & taken)!r} twice"
                )
            taken |= needed
    return None


def notes_of_future(recipe: Recipe) -> list[str]:
    """What of a recipe sees more than a stream could, a line each, for the report."""
    notes = []
    for name, entry in recipe.modalities.items():
        modality: Modality = registry.modalities.build(entry.kind, entry.options)
        notes += [f"{name}: not causal: {finding}" for finding in modality.ahead()]
        if not isinstance(entry.smooth, NoSmoothing) and not entry.smooth.causal:
            notes.append(f"{name}: not causal: each {entry.smooth.over} is smoothed by its future too")
    return notes


def _smooth(entry: ModalityEntry) -> tuple[Key, str] | None:
    smooth = entry.smooth
    if isinstance(smooth, NoSmoothing):
        return None
    if not smooth.causal:
        return ("smooth", "causal"), "must be true for a bundle or a stream, which know no future"
    if smooth.over != "record":
        return (
            ("smooth", "over"),
            f"must be record for a bundle or a stream, whose windows are answered one by one, but got {smooth.over!r}",
        )
    return None
