"""What a page says of generated records: all numbers, right names, nothing of the user's as HTML."""

import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fusionkit.evaluation.generation.quality import judge
from fusionkit.evaluation.generation.section import MEASURES, quality_parts


def found(held_out: int = 40) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    real, other, made = ((generator.normal(size=(count, 3)), np.arange(count) % 2) for count in (60, held_out, 60))
    return judge(*real, *other, *made, 0)


def test_it_shows_every_measure_of_every_pair() -> None:
    one = found()
    text = "".join(quality_parts(one, ["a", "b"], {"a <picture>": Figure()}))
    for measure, title in MEASURES.items():
        assert title.split("\n")[0] in text
        for pair in one["pairs"].values():
            value = pair[measure] if measure != "two_sample" else pair[measure]["low"]
            assert f"{value:.3f}" in text or f"{value:.2g}" in text
    assert f"{one['copies']['held_out']:.3f}" in text
    assert f"{one['transfer']['made_real']:.3f}" in text
    assert "60 training, 40 held-out real and 60 generated records; 30 of each side" in text
    assert "a &lt;picture&gt;" in text


def test_without_held_out_records_nothing_is_said_of_them() -> None:
    text = "".join(quality_parts(found(held_out=0), ["a", "b"], {}))
    assert "against held-out" not in text
    assert "TSTR" not in text
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", text)


def test_names_are_escaped() -> None:
    assert "<b>" not in "".join(quality_parts(found(), ["<b>", "b"], {}))
