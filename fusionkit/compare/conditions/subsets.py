"""What a trained model answers with every subset of its sensors, the others unplugged."""

from pathlib import Path

import numpy as np

from fusionkit.compare.conditions.asked_again import Answers, AskedAgain, load_answers, save_answers
from fusionkit.evaluation.contribution import subsets
from fusionkit.evaluation.predict import predict

SUBSETS = "subsets.safetensors"


def answer_subsets(asked: AskedAgain) -> Answers:
    """Answer the test records with every subset of the sensors, in the order of `fusionkit.evaluation.contribution.subsets`.

    With no sensor at all the answer is the training prior, not what the model makes of nothing. Of three sensors there
    are 8 subsets, the last of which has all.
    """
    every = subsets(asked.sensors)
    answers = [
        asked.predictions(
            predict(asked.trained.model, asked.loader, asked.rows, absent=[n for n in asked.sensors if n not in kept])
        )
        if kept
        else asked.prior()
        for kept in every
    ]
    return Answers(
        rows=asked.rows,
        conditions=[sorted(kept) for kept in every],
        predictions={task: np.stack([said[task] for said in answers]) for task in asked.trained.tasks},
    )


def keep_subsets(asked: AskedAgain, folder: Path) -> None:
    """Answer and keep it in the cell's folder, if it is not there."""
    if read_subsets(folder) is None:
        save_answers(folder / SUBSETS, answer_subsets(asked), None)


def read_subsets(folder: Path) -> Answers | None:
    """What a cell answered; None where it was not asked."""
    return load_answers(folder / SUBSETS, None)
