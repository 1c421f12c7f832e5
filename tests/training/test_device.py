"""Training on a GPU: without a copy between host and device in a step, and with the CPU's answers."""

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.evaluation.predict import predict
from fusionkit.training.device import pick_device, pick_precision


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"train\.device must name a device of this machine, but 'cuda:99'"):
        pick_device("cuda:99")


def test_the_cpu_never_trains_in_bfloat16_by_itself():
    assert pick_precision("auto", torch.device("cpu")) is None
    assert pick_precision("bfloat16", torch.device("cpu")) is torch.bfloat16


@pytest.mark.gpu
def test_ten_steps_copy_nothing_between_host_and_device(tiny, monkeypatch):
    from torch.profiler import ProfilerActivity, profile

    from fusionkit.training import engine as engines
    from fusionkit.training.run import train

    seen = []
    plain = engines.Engine._train_step

    def watched(self, rows, lr):
        if len(seen) >= 10 or self._epoch == 0:  # the first epoch warms up
            return plain(self, rows, lr)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            loss = plain(self, rows, lr)
            torch.cuda.synchronize()
        seen.append(
            [event.name for event in profiler.events() if "Memcpy HtoD" in event.name or "Memcpy DtoH" in event.name]
        )
        return loss

    monkeypatch.setattr(engines.Engine, "_train_step", watched)
    train(tiny("train.device=cuda", "train.epochs=6"), fold=0)
    assert len(seen) == 10
    assert not [names for names in seen if names]


@pytest.mark.gpu
def test_a_model_answers_on_the_gpu_as_on_the_cpu(tiny):
    import numpy as np

    from fusionkit.data.loading import Loader, LoaderInput
    from fusionkit.training.material import open_study
    from fusionkit.training.run import train
    from fusionkit.training.trained import load_trained

    run = train(tiny("train.device=cuda", "train.precision=float32"), fold=0)
    answers = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        trained = load_trained(run, 0, device=device)
        inputs = {name: LoaderInput(modality) for name, modality in trained.modalities.items()}
        loader = Loader(open_study(trained.recipe), inputs, {}, device, True)
        answers.append(predict(trained.model, loader, np.arange(48))["target"])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
