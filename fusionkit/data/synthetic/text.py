"""Made sentences: templates whose graded words say the cues."""

import numpy as np

from fusionkit.data.synthetic.law import Cues

PACES = ("sluggish", "slow", "steady", "brisk", "frantic")
WARMTHS = ("freezing", "cool", "mild", "warm", "scorching")
TEMPLATES = (
    "the {who} found the work {pace} and the room {warmth}",
    "in a {warmth} room the {who} kept a {pace} rhythm",
    "{pace} hands , {warmth} air , said the {who}",
    "it was {warmth} today , wrote the {who} , and everything felt {pace}",
    "the {who} noted a {pace} start on a {warmth} morning",
)
PEOPLE = ("pilot", "nurse", "driver", "student", "operator", "player")
STEP = 0.8  # deviations of a cue per word


def grade(words: tuple[str, ...], cue: float) -> str:
    """The word for a cue: the middle one near 0, the last from 1.2 on."""
    middle = len(words) // 2
    return words[int(np.clip(np.rint(cue / STEP) + middle, 0, len(words) - 1))]


def make_text(cues: Cues, habit: int, generator: np.random.Generator) -> str:
    """One sentence: cue ``shared`` chooses the pace, ``own`` the warmth.

    Args:
        cues: what this sensor sees.
        habit: the subject's favourite template, used half of the time.
        generator: the record's own random numbers.
    """
    template = TEMPLATES[habit if generator.random() < 0.5 else int(generator.integers(len(TEMPLATES)))]
    who = PEOPLE[int(generator.integers(len(PEOPLE)))]
    return template.format(who=who, pace=grade(PACES, cues.shared), warmth=grade(WARMTHS, cues.own))
