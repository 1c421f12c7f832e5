"""How good the generated records of one sensor and fold are: measures, and what a page says of them."""

from html import escape
from typing import Any, NamedTuple

import numpy as np
import torch

from fusionkit.core.levels import Features
from fusionkit.core.recording import Array
from fusionkit.data.generated import Generated
from fusionkit.data.loading import Loader
from fusionkit.evaluation.generation.pictures import draw_by_class, draw_samples
from fusionkit.evaluation.generation.quality import judge
from fusionkit.evaluation.generation.samples import Samples
from fusionkit.evaluation.generation.section import quality_parts
from fusionkit.recipe.build import build_front_end, build_modalities
from fusionkit.training.generating import Lesson, Origin
from fusionkit.training.records import learn_tasks


class FoldQuality(NamedTuple):
    """What `judge` found, and parts of a page."""

    found: dict[str, Any]
    parts: list[str]


def fold_quality(origin: Origin, lesson: Lesson, made: Generated, rows: Array, part: str) -> FoldQuality:
    """Judge and draw a generator's records; about ten seconds.

    Args:
        origin: of the generator.
        lesson: its training records.
        made: its records.
        rows: of the study, held out.
        part: what those are called: ``validation`` or ``test``.
    """
    recipe, material, sensor = origin.recipe, origin.material, origin.sensor
    samples = fold_samples(origin, lesson, made, rows)
    modality, stored = build_modalities(recipe)[sensor], material.stored[sensor]
    front_end = build_front_end(recipe, sensor, modality, stored) if lesson.item.level == "window" else None
    figures = draw_samples(samples, origin.classes, origin.seed)
    figures |= draw_by_class(modality, stored, samples, origin.classes, front_end)
    found = judge(*samples, origin.seed)
    said = f"<p>How good those of fold {origin.fold} are; held-out are its {escape(part)} records.</p>"
    return FoldQuality(found, [said, *quality_parts(found, origin.classes, figures)])


def fold_samples(origin: Origin, lesson: Lesson, made: Generated, rows: Array) -> Samples:
    """What is compared: the training records, others that the generator never saw, and what it made.

    Args:
        origin: of the generator.
        lesson: its training records.
        made: its records.
        rows: of the study, held out; those without the sensor or a label, or that are shorter, are left out.
    """
    held_out, held_out_label = read_held_out(origin, lesson, rows)
    return Samples(
        lesson.values.cpu().numpy(),
        lesson.label.cpu().numpy(),
        held_out,
        held_out_label,
        made.values.cpu().numpy(),
        made.targets[str(origin.entry.task)].astype(np.int64),
    )


def read_held_out(origin: Origin, lesson: Lesson, rows: Array) -> tuple[Array, Array]:
    """Whole records of some rows that have the sensor and a label, as those of a lesson are, and their classes."""
    material, sensor, task = origin.material, origin.sensor, str(origin.entry.task)
    target = learn_tasks(origin.recipe, material.study.records)[1][task]
    here = material.study.sensor(sensor).present & ~np.isnan(target) & ~material.excluded
    rows = rows[here[rows]]
    given = material.input(sensor, build_modalities(origin.recipe)[sensor], windowed=lesson.item.level == "window")
    loader = Loader(material.study, {sensor: given}, {}, material.device, resident=False)
    values, label = [lesson.values[:0]], [rows[:0]]
    for chunk in torch.split(torch.from_numpy(rows), loader.chunk):
        stream = loader.batch(chunk).inputs[sensor]
        whole = stream.mask.all(1) if isinstance(stream, Features) else stream.length == stream.values.shape[-1]
        values.append(stream.values[whole].float())
        label.append(chunk.numpy()[whole.cpu().numpy()])
    return torch.cat(values).cpu().numpy(), target[np.concatenate(label)].astype(np.int64)
