"""A run that is killed goes on from its last checkpoint to the bit as one that only stopped there would."""

import os
import random
import signal
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from toys import (
    ITERATION,
    Toy,
    Watch,
    all_of,
    differences,
    generators,
    implicit_learner,
    ppo,
    set_generators,
    snapshot,
    tare,
    vec_env,
)

from sb3_tare import TAREPPO, RewardLearner
from sb3_tare.utils.files import reward_path

N_KILLS = int(os.environ.get("SB3_TARE_KILLS", "4"))
"""Children killed for each order of callbacks: SB3_TARE_KILLS=50 pytest tests/test_kills.py"""
EVERY = 32
"""Steps between checkpoints, in the middle of rollouts and at the last step of one"""
ITERATIONS = 3

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def endless():
    return vec_env(1, lambda: Toy(horizon=90, p_end=0.02))


def learn(kind: str, callbacks: list[Any]) -> tuple[Any, RewardLearner]:
    """A run with a learner of its model's own, or one that stands before or behind other callbacks."""
    if kind == "TAREPPO":
        model = tare(endless())
        return model.learn(ITERATIONS * ITERATION, callback=callbacks), model.reward_learner
    model, learner = ppo(endless()), implicit_learner()
    order = [learner, *callbacks] if kind == "learner before" else [*callbacks, learner]
    return model.learn(ITERATIONS * ITERATION, callback=order), learner


def go_on(model: Any, learner: RewardLearner) -> dict[str, Any]:
    """All that is learned by two further iterations."""
    callback = None if hasattr(model, "reward_learner") else learner
    model.learn(2 * ITERATION, callback=callback, reset_num_timesteps=False)
    return all_of(model, learner)


@cache
def uninterrupted(kind: str, step: int) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]:
    """What a run has learned that stopped at a step, its generators there, and what it learns in the same process after."""
    model, learner = learn(kind, [Watch(step=lambda watch: watch.num_timesteps < step)])
    assert model.num_timesteps == step
    stopped, states = all_of(model, learner), generators()
    model.set_env(endless())
    model.get_env().seed(model.seed)  # as a model that is loaded does
    set_generators(states)
    return stopped, states, go_on(model, learner)


def killed(run: Callable[[], Any], at: int | None = None) -> tuple[int, list[int]]:
    """Run in a child that is killed at a call of a function, or returns how many there were, and which of them saved."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        calls, saving = 0, []

        def count(frame: Any, event: str, _: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            if at is None and event == "call" and frame.f_code.co_name in ("save_to_zip_file", "_save_for"):
                saving.append(calls)

        try:
            sys.setprofile(count)
            run()
            sys.setprofile(None)
            os.write(write, " ".join(map(str, [calls, *saving])).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        told = [int(each) for each in file.read().split()]
    os.waitpid(child, 0)
    return (told[0], told[1:]) if told else (0, [])


def run(kind: str, folder: Path) -> None:
    learn(kind, [CheckpointCallback(EVERY, str(folder))])


def last_of(kind: str, folder: Path) -> tuple[Any, RewardLearner] | None:
    """What the last checkpoint holds: of TAREPPO each is whole, of PPO the newest or its learner may be missing."""
    models = [path for path in folder.glob("*_steps.zip")]
    for path in sorted(models, key=lambda path: -int(path.stem.split("_")[-2])):
        if kind == "TAREPPO":
            model = TAREPPO.load(path, env=endless())
            return model, model.reward_learner
        if reward_path(path).exists():
            return PPO.load(path, env=endless()), RewardLearner.load(path)
        with pytest.raises(ValueError, match=path.name):
            RewardLearner.load(path)
    return None


@pytest.mark.parametrize("kind", ["TAREPPO", "learner before", "learner behind"])
def test_a_killed_run_goes_on_as_if_it_had_only_stopped(kind, tmp_path):
    (tmp_path / "dry").mkdir()
    n_calls, saving = killed(partial(run, kind, tmp_path / "dry"))
    rng, n_resumed = random.Random(kind), 0
    for number in range(N_KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        # A save is some hundred calls of functions, and by the last one there is something to go on from.
        in_a_save = (rng.choice(saving) if number > 1 else saving[-1]) + rng.randrange(400)
        killed(partial(run, kind, folder), in_a_save if number % 2 else rng.randrange(n_calls))
        found = last_of(kind, folder)
        if found is None:
            continue
        model, learner = found
        stopped, states, later = uninterrupted(kind, model.num_timesteps)
        if kind == "TAREPPO":
            assert not differences(all_of(model), stopped)
        else:
            assert not differences(snapshot(learner._loaded.state), snapshot_of(stopped))
            set_generators(states)  # which SB3's files do not hold
        assert not differences(go_on(model, learner), later), (number, model.num_timesteps)
        n_resumed += 1
    assert n_resumed > 0


def snapshot_of(state: dict[str, Any]) -> dict[str, Any]:
    """The learner's part of all that is learned."""
    part = "/reward_learner"
    return {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)}


def test_a_kill_between_a_new_best_model_and_its_reward_is_told(tmp_path):
    best = tmp_path / "best_model"
    saver = EvalCallback(vec_env(), eval_freq=50, n_eval_episodes=1, best_model_save_path=str(tmp_path), verbose=0)
    ppo().learn(ITERATION, callback=[saver, implicit_learner()])
    RewardLearner.load(best)
    ppo(seed=1).save(best)
    sentence = r"best_model\.reward\.zip was saved beside another best_model\.zip than the one that is there now"
    for path in (best, best.with_suffix(".zip")):
        with pytest.raises(ValueError, match=sentence):
            RewardLearner.load(path)
    RewardLearner.load(reward_path(best))


@pytest.mark.parametrize("when", ["rollout_start", "training_end"])
@pytest.mark.parametrize("first", ["saver", "learner"])
def test_a_learner_is_never_behind_its_host_whoever_asks_first(when, first):
    """A callback that saves as a rollout starts, or as training ends, before the learner is told."""
    runs = []
    for order in (first, "learner"):
        model, learner, known = ppo(), implicit_learner(), []
        note = Watch(**{when: lambda _, known=known, learner=learner: known.append(snapshot(learner.state_dict()))})
        learner.attach(model)
        model.learn(3 * ITERATION, callback=[note, learner] if order == "saver" else [learner, note])
        runs.append([*known, all_of(model, learner)])
    assert len(runs[0]) == len(runs[1])
    assert not any(differences(mine, theirs) for mine, theirs in zip(*runs, strict=True))
