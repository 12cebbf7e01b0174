"""A full disk under a log or a monitor ends a run with a sentence, and leaves a model that can be saved and learn on."""

import errno
from typing import Any

import pytest
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    JSONOutputFormat,
    Logger,
    TensorBoardOutputFormat,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import ITERATION, Toy, all_of, awr_of, implicit_learner, not_finite, policy_of, ppo, tare, tare_awr

from sb3_tare import TAREAWR, TAREPPO


class Full:
    """A file on a full disk, whose writes are noticed when they leave the memory."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def writer(kind: str, folder: Any) -> Any:
    if kind == "tensorboard":
        pytest.importorskip("tensorboard")
        made = TensorBoardOutputFormat(str(folder))
        asynchronous = made.writer._get_file_writer().event_writer._async_writer
        asynchronous._writer = asynchronous._worker._record_writer = Full(asynchronous._writer)
        return made
    made = {"log": HumanOutputFormat, "json": JSONOutputFormat, "csv": CSVOutputFormat}[kind](str(folder / f"file.{kind}"))
    made.file = Full(made.file)
    return made


MODELS = {
    "TAREPPO": (lambda env=None: tare(env), TAREPPO.load, all_of),
    "TAREAWR": (lambda env=None: tare_awr(env), TAREAWR.load, awr_of),
}
with_each_model = pytest.mark.parametrize(("make", "load", "state"), MODELS.values(), ids=MODELS)
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def goes_on(model: Any, load: Any, state: Any, path: Any) -> None:
    """The live model and its file, without a log."""
    model.save(path)
    loaded = load(path, env=model.get_env())
    for each in (loaded, model):
        each.set_logger(Logger(None, []))
        each.set_env(each.get_env())  # a monitor that could not write expects a reset
        steps = each.num_timesteps
        each.learn(2 * ITERATION, reset_num_timesteps=False)
        assert each.num_timesteps >= steps + 2 * ITERATION
        assert not not_finite(state(each))


@with_each_model
@pytest.mark.parametrize("kind", ["log", "json", "csv", "tensorboard"])
def test_a_log_on_a_full_disk_ends_the_run_with_a_sentence_and_a_whole_model(kind, make, load, state, tmp_path):
    model = make()
    model.learn(2 * ITERATION)
    model.set_logger(Logger(str(tmp_path), [writer(kind, tmp_path)]))
    sentence = rf"No space left on device: the log in {tmp_path} cannot be written at step \d+\. The model is whole: make room"
    with pytest.raises(OSError, match=sentence) as error:
        model.learn(8 * ITERATION, reset_num_timesteps=False, log_interval=1)
    assert error.value.errno == errno.ENOSPC
    goes_on(model, load, state, tmp_path / "model")


@with_each_model
def test_a_monitor_on_a_full_disk_ends_the_run_as_it_does_with_sb3_and_leaves_a_whole_model(make, load, state, tmp_path):
    monitor = Monitor(Toy(), str(tmp_path / "monitor"))
    model = make(DummyVecEnv([lambda: monitor]))
    model.learn(2 * ITERATION)
    writer = monitor.results_writer
    writer.file_handler = Full(writer.file_handler)
    with pytest.raises(OSError, match="No space left on device"):
        model.learn(2 * ITERATION, reset_num_timesteps=False)
    monitor.results_writer = None
    goes_on(model, load, state, tmp_path / "model")


def test_a_progress_bar_that_cannot_be_shown_leaves_a_whole_model(tmp_path, monkeypatch):
    callbacks = pytest.importorskip("stable_baselines3.common.callbacks")
    model = tare()
    monkeypatch.setattr(callbacks, "tqdm", lambda **_: type("Bar", (), {"update": lambda *_: Full(None).flush()})())
    with pytest.raises(OSError, match="No space left on device"):
        model.learn(2 * ITERATION, progress_bar=True)
    goes_on(model, TAREPPO.load, all_of, tmp_path / "model")


def test_a_host_of_sb3_whose_log_is_full_has_its_buffer_back_and_learns_on(tmp_path):
    model, learner = ppo(), implicit_learner()
    model.learn(2 * ITERATION, callback=learner)
    model.set_logger(Logger(str(tmp_path), [writer("csv", tmp_path)]))
    with pytest.raises(OSError, match="No space left on device"):
        model.learn(2 * ITERATION, callback=learner, reset_num_timesteps=False)
    model.set_logger(Logger(None, []))
    model.learn(2 * ITERATION, callback=learner, reset_num_timesteps=False)
    assert type(model.rollout_buffer) is RolloutBuffer
    assert not not_finite(policy_of(model))
