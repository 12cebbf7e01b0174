"""Learned rewards that lie beside the models that other callbacks save."""

import copy

import pytest
from off_policy_toys import FAST, tiny
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback, EvalCallback, EveryNTimesteps
from toys import ITERATION, Watch, differences, implicit_learner, ppo, snapshot, tare, vec_env

from sb3_tare import RewardLearner
from sb3_tare.utils.files import reward_path

ORDERS = {
    "before": lambda learner, saver: [learner, saver],
    "behind": lambda learner, saver: [saver, learner],
    "nested": lambda learner, saver: [CallbackList([learner]), CallbackList([saver])],
}
HOSTS = {"ppo": (ppo, implicit_learner), "sac": (lambda: tiny(SAC), lambda: RewardLearner(**FAST))}


def state_in(path):
    return snapshot(RewardLearner.load(path)._loaded.state)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("order", ORDERS)
def test_each_checkpoint_has_the_reward_of_its_step_beside_it(order, host, tmp_path):
    make_model, make_learner = HOSTS[host]
    model, learner = make_model(), make_learner()
    known = {}

    def note(watch):
        known[watch.num_timesteps] = copy.deepcopy((snapshot(learner.state_dict()), learner.times))

    saver = CheckpointCallback(40 // model.n_envs, str(tmp_path))
    model.learn(4 * ITERATION, callback=[*ORDERS[order](learner, saver), Watch(step=note)])
    models = sorted(path for path in tmp_path.glob("*_steps.zip"))
    assert {reward_path(path).name for path in models} == {path.name for path in tmp_path.glob("*.reward.zip")}
    assert len(models) == 4 * ITERATION // 40
    for path in models:
        state, times = known[int(path.stem.split("_")[-2])]
        assert not differences(state_in(path), state)
        assert RewardLearner.load(path)._loaded.times == times


@pytest.mark.parametrize("order", ORDERS)
def test_the_best_model_has_its_reward_beside_it(order, tmp_path):
    model, learner = ppo(), implicit_learner()
    states = {}
    saver = EvalCallback(vec_env(), eval_freq=50, n_eval_episodes=1, best_model_save_path=str(tmp_path), verbose=0)
    watch = Watch(step=lambda watch: states.update({watch.num_timesteps: snapshot(learner.state_dict())}))
    model.learn(2 * ITERATION, callback=[*ORDERS[order](learner, saver), watch])
    best_at = PPO.load(tmp_path / "best_model").num_timesteps
    assert not differences(state_in(tmp_path / "best_model"), states[best_at])


def test_a_checkpoint_of_the_very_last_step_and_one_inside_an_event_are_not_missed(tmp_path):
    model, learner = ppo(), implicit_learner()
    last = CheckpointCallback(2 * ITERATION // model.n_envs, str(tmp_path), "last")
    event = EveryNTimesteps(50, CheckpointCallback(1, str(tmp_path), "event"))
    model.learn(2 * ITERATION, callback=[learner, last, event])
    models = {path for path in tmp_path.glob("*.zip") if ".reward" not in path.name}
    assert len(models) > 2
    assert all(reward_path(path).exists() for path in models)


def test_training_that_a_callback_ends_loses_no_reward(tmp_path):
    saver = CheckpointCallback(10, str(tmp_path))
    ending = Watch(step=lambda watch: None)
    ending._on_step = lambda: ending.n_calls < 10
    ppo().learn(2 * ITERATION, callback=[implicit_learner(), saver, ending])
    assert len(list(tmp_path.glob("*.reward.zip"))) == 1


def test_a_run_goes_on_from_the_path_of_a_checkpoint(tmp_path):
    ppo().learn(2 * ITERATION, callback=[implicit_learner(learning_rate=0.5), CheckpointCallback(ITERATION, str(tmp_path))])
    path = max(tmp_path.glob("*_steps.zip"))
    model, learner = PPO.load(path, env=vec_env()), RewardLearner.load(path)
    assert learner.settings.step.learning_rate == 0.5
    model.learn(ITERATION, callback=learner, reset_num_timesteps=False)


def test_the_log_says_which_reward_belongs_to_which_model(tmp_path, capsys):
    ppo().learn(ITERATION, callback=[implicit_learner(), CheckpointCallback(10, str(tmp_path), "quiet")])
    assert "learned reward" not in capsys.readouterr().out
    ppo(verbose=1).learn(ITERATION, callback=[implicit_learner(), CheckpointCallback(10, str(tmp_path))])
    path = tmp_path / "rl_model_10_steps.zip"
    assert f"Saved the learned reward of {path} to {reward_path(path)}" in capsys.readouterr().out


def test_an_algorithm_that_owns_its_learner_has_the_reward_in_its_own_file(tmp_path):
    model = tare().learn(ITERATION, callback=CheckpointCallback(ITERATION // 2, str(tmp_path)))
    assert not list(tmp_path.glob("*.reward.zip"))
    model.save(tmp_path / "model")
    (tmp_path / "model.reward.zip").write_bytes(b"something else")
    assert not differences(state_in(tmp_path / "model"), snapshot(model.reward_learner.state_dict()))


def test_a_model_without_a_reward_beside_it_says_where_one_would_be(tmp_path):
    ppo().save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"model\.zip holds no RewardLearner.*model\.reward\.zip beside it"):
        RewardLearner.load(tmp_path / "model.zip")
