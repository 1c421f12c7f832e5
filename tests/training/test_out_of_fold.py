"""What a meta-classifier learns from: decisions of branches about records that these branches did not train on."""

import numpy as np

from fusionkit.training import out_of_fold
from fusionkit.training.run import train


def test_no_branch_trains_on_a_record_that_it_decides_about(tiny, monkeypatch):
    """Together they decide about every training record once."""
    trained, asked = [], []
    train_model, outputs = out_of_fold.train_model, out_of_fold.outputs

    def watch(job, **options):
        trained.append(set(job.train.tolist()))
        return train_model(job, **options)

    def ask(model, loader, rows):
        asked.append(set(np.asarray(rows).tolist()))
        return outputs(model, loader, rows)

    monkeypatch.setattr(out_of_fold, "train_model", watch)
    monkeypatch.setattr(out_of_fold, "outputs", ask)
    train(tiny("fusion={kind: stacking, dim: 8, folds: 2}", "train.epochs=1"), fold=0)
    assert len(trained) == len(asked) == 2 and not asked[0] & asked[1]
    for seen, held in zip(trained, asked, strict=True):
        assert not seen & held and seen | held == asked[0] | asked[1]
