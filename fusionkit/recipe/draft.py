"""Write what was guessed from a table as a commented recipe."""

from collections.abc import Mapping
from typing import Any

from fusionkit.recipe.guess import Guess
from fusionkit.recipe.write import dump_flow


def draft(found: Guess, name: str, path: str, command: str) -> str:
    """A recipe that trains as it is, with a comment on every guess.

    Args:
        found: what was guessed.
        name: the recipe's name.
        path: the table, as the recipe shall call it.
        command: how to train it, for the header.
    """
    who = "" if found.subjects is None or found.stand_in else f" of {found.subjects} subjects"
    lines = [
        f"# Guessed by `fusionkit init` from {path}: {found.records} records{who}.",
        "# Values were looked at and not understood: read every line before you believe a score.",
        f"#   {command}",
        f"name: {dump_flow(name)}",
        "seed: 0",
        "data:",
        "  kind: manifest",
        f"  path: {dump_flow(path)}",
    ]
    if found.roles:
        note = f"no column names a subject; the {found.subjects} values of {found.stand_in} stand in for it"
        lines.append(_comment(f"  columns: {dump_flow(found.roles)}", note if found.stand_in else ""))
    lines.append(_comment(f"  split: {dump_flow(found.split)}", _explain_split(found.split)))
    if found.allow_leakage is not None:
        lines.append("  # without this reason training is refused; find a better split if you can")
        lines.append(f"  allow_leakage: {dump_flow(found.allow_leakage)}")
    lines.append("modalities:")
    lines += [_comment(f"  {sensor.name}: {dump_flow(sensor.entry)}", sensor.note) for sensor in found.sensors]
    if any(sensor.entry["kind"] == "eeg" for sensor in found.sensors) and found.subjects is not None:
        lines.append(
            "  # normalise: {kind: subject} often helps EEG; it uses all records of a test subject (transductive)"
        )
    if len(found.sensors) > 1:
        lines.append("fusion: {kind: rcft}  # fusionkit ls fusion")
    lines.append("tasks:")
    for task in found.tasks:
        mark = "# " if task.doubt else ""
        notes = "; ".join([*([task.doubt] if task.doubt else []), *task.notes])
        lines.append(_comment(f"  {mark}{task.name}: {dump_flow(task.entry)}", notes))
    for column, reason in found.left_out.items():
        lines.append(f"  # {' '.join(column.split())}: {reason}")
    lines.append(f"train: {dump_flow({'epochs': 30, 'batch': 32 if found.records < 1000 else 64})}")
    return "\n".join(lines) + "\n"


def _comment(line: str, note: str) -> str:
    note = " ".join(note.split())  # a cell's line ends must not end the comment
    note = note if len(note) <= 160 else f"{note[:157]}..."
    return f"{line}  # {note}" if note else line


def _explain_split(split: Mapping[str, Any]) -> str:
    if split["kind"] == "column":
        return f"as the column {split['column']} says, whole by {split['by']}"
    return f"every {split['by']} is held out once, whole"
