"""RewardLearner as a callback of algorithms that do not know of it."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete, InvalidActionEnvMultiBinary, InvalidActionEnvMultiDiscrete
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import CallbackList, EvalCallback
from stable_baselines3.common.vec_env import VecNormalize
from toys import (
    AS_HOST,
    BOX,
    ITERATION,
    OBSERVATION,
    SMALL,
    TINY_NET,
    Toy,
    Watch,
    all_of,
    differences,
    implicit_learner,
    not_finite,
    policy_of,
    ppo,
    recorded_rollouts,
    snapshot,
    tare,
    vec_env,
)

from sb3_tare import LeanPPO

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")

A2C_SMALL = {"n_steps": 64, "seed": 0, "policy_kwargs": dict(TINY_NET)}
TRPO_SMALL = {"n_steps": 64, "batch_size": 32, "n_critic_updates": 2, "seed": 0, "policy_kwargs": TINY_NET}


def host(algorithm, env=None, **kwargs):
    """A tiny host."""
    small = {A2C: A2C_SMALL, TRPO: TRPO_SMALL}.get(algorithm, SMALL)
    return algorithm("MlpPolicy", vec_env() if env is None else env, **{**small, **kwargs})


def assert_learns(model, learner, iterations=2, **kwargs):
    """Policy and reward move, all stays finite, and the buffer is the host's own again."""
    learner.attach(model)
    before, buffer = all_of(model, learner), buffer_of(model)
    model.learn(iterations * model.n_steps * model.n_envs, callback=learner, **kwargs)
    after = all_of(model, learner)
    assert not not_finite(after)
    changed = differences(before, after)
    assert any(name.startswith("/policy/") for name in changed)
    assert any(name.startswith("/reward_learner/reward_model/network") for name in changed)
    assert buffer_of(model) == buffer


def buffer_of(model):
    """What of a rollout buffer must be the same at any time at which others can see it."""
    buffer = model.rollout_buffer
    shapes = {name: value.shape for name, value in vars(buffer).items() if isinstance(value, np.ndarray)}
    return type(buffer), buffer.buffer_size, buffer.n_envs, len(shapes)


# Hosts


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
@pytest.mark.parametrize("validation", ["split", "next_rollout"])
@pytest.mark.parametrize("action_space", [BOX, spaces.Discrete(3)], ids=["Box", "Discrete"])
def test_a_host_learns_its_reward(algorithm, validation, action_space):
    env = vec_env(2, lambda: Toy(action_space=action_space, p_end=0.1))
    assert_learns(host(algorithm, env), implicit_learner(validation=validation))


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
@pytest.mark.parametrize("curvature", ["hessian", "identity"])
def test_a_host_learns_its_reward_with_every_curvature(algorithm, curvature):
    assert_learns(host(algorithm), implicit_learner(curvature=curvature))


@pytest.mark.parametrize(
    "env",
    [
        lambda: InvalidActionEnvDiscrete(dim=5, n_invalid_actions=2),
        lambda: InvalidActionEnvMultiDiscrete(dims=[2, 3], n_invalid_actions=1),
        lambda: InvalidActionEnvMultiBinary(dims=4, n_invalid_actions=2),
    ],
    ids=["Discrete", "MultiDiscrete", "MultiBinary"],
)
@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_masked_actions_are_learned_with_their_masks(env, curvature, validation):
    model, learner = host(MaskablePPO, vec_env(2, env)), implicit_learner(curvature=curvature, validation=validation)
    learner.attach(model)
    rollouts = recorded_rollouts(learner)
    assert_learns(model, learner)
    masks = rollouts[0].policy.action_masks
    assert len(masks) == 2 * ITERATION
    assert (masks == 0).any()
    steps = rollouts[0].policy
    assert model.policy.get_distribution(steps.observations, action_masks=masks).log_prob(steps.actions).min() > -20


def test_masks_may_be_left_unused():
    env = vec_env(1, lambda: InvalidActionEnvDiscrete(dim=5, n_invalid_actions=2))
    assert_learns(host(MaskablePPO, env), implicit_learner(), use_masking=False)


@pytest.mark.parametrize(("n_steps", "batch_size"), [(66, 32), (66, 8), (34, 16)])
@pytest.mark.parametrize("algorithm", [PPO, MaskablePPO])
def test_no_part_ends_in_a_mini_batch_of_one_row(algorithm, n_steps, batch_size):
    # An episode of 100 steps is cut in two halves, and half of n_steps is one more than a multiple of batch_size.
    env = vec_env(1, lambda: InvalidActionEnvDiscrete(dim=3, n_invalid_actions=1))
    model = host(algorithm, env, n_steps=n_steps, batch_size=batch_size)
    sizes = []
    evaluate = model.policy.evaluate_actions

    def spy(observations, actions, **kwargs):
        sizes.append(len(actions))
        return evaluate(observations, actions, **kwargs)

    model.policy.evaluate_actions = spy
    model.learn(2 * n_steps, callback=implicit_learner())
    assert min(sizes) > 1
    assert max(sizes) <= batch_size + 1
    assert not not_finite(policy_of(model))


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
def test_a_host_learns_from_dictionaries(algorithm):
    space = spaces.Dict({"vector": OBSERVATION, "choice": spaces.Discrete(3)})
    small = {PPO: SMALL, A2C: A2C_SMALL, TRPO: TRPO_SMALL}[algorithm]
    model = algorithm("MultiInputPolicy", vec_env(2, lambda: Toy(space)), **small)
    assert_learns(model, implicit_learner(features="own"))
    assert type(model.rollout_buffer) is DictRolloutBuffer


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
def test_a_learned_reward_of_zero_trains_a_host_as_it_trains_itself(algorithm):
    learned = []
    for callback in (None, implicit_learner(**AS_HOST)):
        model = host(algorithm, vec_env(2, lambda: Toy(p_end=0.05)))
        start = policy_of(model)
        model.learn(3 * 2 * ITERATION, callback=callback)
        learned.append(policy_of(model))
    assert differences(start, learned[0])
    assert not differences(*learned)


def test_a_learned_reward_of_zero_trains_maskable_ppo_as_it_trains_itself():
    learned = []
    for callback in (None, implicit_learner(**AS_HOST)):
        model = host(MaskablePPO, vec_env(1, lambda: InvalidActionEnvDiscrete(dim=5, n_invalid_actions=2, ep_length=20)))
        model.learn(3 * ITERATION, callback=callback)
        learned.append(policy_of(model))
    assert not differences(*learned)


def test_hosts_that_standardise_no_advantages_learn_too():
    for algorithm in (PPO, A2C, TRPO):
        assert_learns(host(algorithm, normalize_advantage=False), implicit_learner())


# The same as TAREPPO


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"swap": False},
        {"validation": "next_rollout"},
        {"validation": "next_rollout", "curvature": "hessian"},
        {"interleave": True},
        {"preset": "paper"},
        {"features": "own", "n_reward_updates": 2},
        {"preset": "decomposition", "decomposition_updates": 2},
    ],
    ids=str,
)
def test_ppo_with_the_callback_is_tareppo_to_the_last_bit(settings):
    def env():
        return vec_env(2, lambda: Toy(p_end=0.05))

    # One after the other, as building a model seeds the global generators.
    whole = tare(env(), **settings).learn(3 * 2 * ITERATION)
    learner = implicit_learner(**settings)
    bare = ppo(env()).learn(3 * 2 * ITERATION, callback=learner)
    assert not differences(all_of(whole), all_of(bare, learner))


def test_schedules_go_on_as_in_tareppo_and_ppo():
    progress = []

    def schedule(remaining):
        progress[-1].append(remaining)
        return 1e-3 * remaining + 1e-5

    def clip_range(remaining):
        progress[-1].append(remaining)
        return 0.1 + 0.1 * remaining

    kwargs = {"learning_rate": schedule, "clip_range": clip_range}
    for run in (
        lambda: ppo(**kwargs).learn(3 * ITERATION),
        lambda: ppo(**kwargs).learn(3 * ITERATION, callback=implicit_learner()),
        lambda: tare(host=kwargs).learn(3 * ITERATION),
    ):
        progress.append([])
        run()
    alone, bare, whole = progress
    assert bare == whole
    assert set(alone) == set(whole)
    # The two parts of a rollout are trained at the progress at which PPO trains the whole.
    assert all(bare.count(remaining) == 2 * alone.count(remaining) for remaining in alone if remaining < 1.0)


def test_schedules_of_a2c_go_on_as_without_the_callback():
    rates = []
    for callback in (None, implicit_learner()):
        seen = []
        model = host(A2C, learning_rate=lambda remaining, seen=seen: seen.append(remaining) or 1e-3 * remaining + 1e-5)
        model.learn(3 * ITERATION, callback=callback)
        rates.append(sorted(set(seen)))
    assert rates[0] == rates[1]


# The rollout buffer


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO, MaskablePPO])
@pytest.mark.parametrize("settings", [{}, {"validation": "next_rollout"}, {"swap": False}], ids=str)
def test_the_buffer_is_the_hosts_own_whenever_others_look(algorithm, settings):
    masked = algorithm is MaskablePPO
    make = (lambda: InvalidActionEnvDiscrete(dim=3, n_invalid_actions=1)) if masked else Toy
    model = host(algorithm, vec_env(2, make), n_steps=32)
    seen = []

    def look(watch):
        seen.append(buffer_of(watch.model))

    expected = buffer_of(model)
    assert expected[0] is (MaskableRolloutBuffer if masked else RolloutBuffer)
    watch = Watch(training_start=look, rollout_start=look, step=look, rollout_end=look)
    model.learn(3 * 64, callback=[watch, implicit_learner(**settings)])
    assert len(seen) == 1 + 3 * (1 + 32 + 1)
    assert set(seen) == {expected}
    assert buffer_of(model) == expected


def test_during_the_next_rollout_the_buffer_fills_as_that_of_ppo():
    model = ppo(vec_env(2))
    buffer, positions = model.rollout_buffer, []
    step = Watch(step=lambda watch: positions.append((watch.model.rollout_buffer.pos, watch.model.rollout_buffer.full)))
    model.learn(2 * 2 * ITERATION, callback=[step, implicit_learner()])
    assert model.rollout_buffer is buffer
    assert positions == 2 * [(position, False) for position in range(ITERATION)]


def test_callbacks_before_it_see_what_the_host_collected():
    rollouts = []

    def check(watch):
        buffer = watch.model.rollout_buffer
        assert buffer.advantages.shape == (ITERATION, 2)
        np.testing.assert_array_equal(buffer.returns, buffer.advantages + buffer.values)
        rollouts.append(buffer.advantages.copy())

    for callbacks in ([], [implicit_learner(zero_head=False)]):
        ppo(vec_env(2)).learn(1, callback=[Watch(rollout_end=check), *callbacks])
    np.testing.assert_array_equal(*rollouts)


def test_a_callback_that_consumes_the_buffer_first_is_told_so():
    model = ppo()
    consume = Watch(rollout_end=lambda watch: list(watch.model.rollout_buffer.get(32)) and None)
    with pytest.raises(RuntimeError, match=r"rollout buffer does not hold what the environment gave.*a callback has read it"):
        model.learn(ITERATION, callback=[consume, implicit_learner()])


# Together with other callbacks


def test_it_works_in_a_list_with_other_callbacks(tmp_path):
    model, learner, steps = ppo(), implicit_learner(), []
    callbacks = CallbackList(
        [
            Watch(step=lambda watch: steps.append(watch.num_timesteps)),
            EvalCallback(vec_env(), eval_freq=50, n_eval_episodes=1, best_model_save_path=tmp_path, verbose=0),
            learner,
        ]
    )
    model.learn(3 * ITERATION, callback=callbacks)
    assert steps == list(range(1, 3 * ITERATION + 1))
    assert (tmp_path / "best_model.zip").exists()
    assert model.logger.name_to_value["reward/hypergradient_norm"] > 0


def test_it_works_in_a_list_within_a_list():
    assert_learns_in = ppo()
    learner = implicit_learner()
    assert_learns_in.learn(2 * ITERATION, callback=CallbackList([CallbackList([learner])]))
    assert learner.state_dict()["optimisers"]["reward"]["state"][0]["step"] > 0


def test_it_works_behind_vec_normalize():
    assert_learns(ppo(VecNormalize(vec_env(2))), implicit_learner())


def test_a_callback_that_stops_training_in_the_middle_of_a_rollout_leaves_all_whole():
    model, learner = ppo(), implicit_learner()
    expected = buffer_of(model)
    model.learn(3 * ITERATION, callback=[Watch(step=lambda watch: watch.num_timesteps < ITERATION + 10), learner])
    assert model.num_timesteps == ITERATION + 10
    assert buffer_of(model) == expected
    # The first rollout's last reward step was taken all the same.
    assert learner.state_dict()["optimisers"]["reward"]["state"][0]["step"] == 2
    assert_learns(model, learner)


# Learning again


def test_learning_may_go_on_with_the_same_callback():
    model, learner = ppo(), implicit_learner()
    model.learn(2 * ITERATION, callback=learner)
    steps = learner.state_dict()["optimisers"]["reward"]["state"][0]["step"].item()
    assert steps == 4
    model.learn(2 * ITERATION, callback=learner, reset_num_timesteps=False)
    assert model.num_timesteps == 4 * ITERATION
    assert learner.state_dict()["optimisers"]["reward"]["state"][0]["step"] == 8
    assert_learns(model, learner)


def test_time_steps_count_on_across_rollouts_and_calls_of_learn():
    model, learner = ppo(vec_env(1, lambda: Toy(horizon=100))), implicit_learner()
    learner.attach(model)
    rollouts = recorded_rollouts(learner)
    model.learn(ITERATION, callback=learner)
    model.learn(ITERATION, callback=learner, reset_num_timesteps=False)
    model.learn(ITERATION, callback=learner)
    times = [rollout.reward.episodes.times.tolist() for rollout in rollouts]
    assert times == [[*range(64)], [*range(64, 100), *range(28)], [*range(64)]]


def test_the_host_may_learn_without_the_callback_afterwards():
    model = ppo()
    model.learn(ITERATION, callback=implicit_learner(interleave=True))
    assert model.n_epochs == SMALL["n_epochs"]
    updates = model._n_updates
    model.learn(ITERATION)
    assert model._n_updates == updates + SMALL["n_epochs"]
    assert not not_finite(policy_of(model))


def test_training_may_end_twice():
    model, learner = ppo(), implicit_learner()
    model.learn(2 * ITERATION, callback=learner)
    before, buffer = all_of(model, learner), buffer_of(model)
    learner.on_training_end()
    learner.on_training_end()
    assert not differences(before, all_of(model, learner))
    assert buffer_of(model) == buffer


def test_the_last_reward_step_is_taken_when_training_ends():
    model, learner = ppo(), implicit_learner()
    before = Watch(rollout_end=lambda _: states.append(snapshot(learner.state_dict())))
    states = []
    model.learn(ITERATION, callback=[learner, before])
    assert "/reward_model/network.head.weight" in differences(states[0], snapshot(learner.state_dict()))


# Interleaving


@pytest.mark.parametrize("algorithm", [PPO, MaskablePPO])
def test_interleaving_gives_the_epochs_back(algorithm):
    make = (lambda: InvalidActionEnvDiscrete(dim=3, n_invalid_actions=1)) if algorithm is MaskablePPO else Toy
    model, epochs = host(algorithm, vec_env(1, make), n_epochs=3), []
    note = Watch(rollout_end=lambda watch: epochs.append(watch.model.n_epochs))
    learner = implicit_learner(interleave=True)
    model.learn(2 * ITERATION, callback=[note, learner])
    assert epochs == [3, 3]
    assert model.n_epochs == 3
    # Two rollouts, two parts, three epochs.
    assert model._n_updates == learner.state_dict()["optimisers"]["reward"]["state"][0]["step"] == 12


# Interrupts


def interrupt_update(model, at):
    """Let the ``at``-th update of the host be interrupted at its first mini-batch, until :func:`mend`."""
    train, evaluate, calls = model.train, model.policy.evaluate_actions, []

    def count():
        calls.append(None)
        train()

    def evaluate_or_raise(*args, **kwargs):
        if len(calls) == at:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    model.train, model.policy.evaluate_actions = count, evaluate_or_raise


def mend(model):
    del model.train, model.policy.evaluate_actions


@pytest.mark.parametrize(("at", "reset"), [(1, True), (2, False), (3, False), (4, True)])
@pytest.mark.parametrize("settings", [{}, {"interleave": True}, {"validation": "next_rollout"}], ids=str)
def test_after_an_interrupted_update_learning_goes_on(at, reset, settings):
    model, learner = ppo(), implicit_learner(**settings)
    expected = buffer_of(model)
    interrupt_update(model, at)
    with pytest.raises(KeyboardInterrupt):
        model.learn(6 * ITERATION, callback=learner)
    mend(model)
    model.learn(2 * ITERATION, callback=learner, reset_num_timesteps=reset)
    assert buffer_of(model) == expected
    assert model.n_epochs == SMALL["n_epochs"]
    assert not not_finite(all_of(model, learner))


@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("settings", [{}, {"interleave": True}, {"validation": "next_rollout"}], ids=str)
def test_after_an_interrupted_update_the_host_goes_on_alone(at, settings):
    model, learner = ppo(), implicit_learner(**settings)
    expected = buffer_of(model)
    interrupt_update(model, at)
    with pytest.raises(KeyboardInterrupt):
        model.learn(6 * ITERATION, callback=learner)
    mend(model)
    updates = model._n_updates
    model.learn(2 * ITERATION)
    assert buffer_of(model) == expected
    assert model._n_updates == updates + 2 * SMALL["n_epochs"]


def test_after_an_interrupted_update_that_the_learner_runs_the_buffer_is_the_hosts_at_once():
    model, learner = ppo(), implicit_learner()
    expected = buffer_of(model)
    interrupt_update(model, at=1)
    with pytest.raises(KeyboardInterrupt):
        model.learn(6 * ITERATION, callback=learner)
    assert buffer_of(model) == expected


@pytest.mark.parametrize("at", [1, 4])
def test_a_model_saved_after_an_interrupt_has_its_epochs(at, tmp_path):
    # As rl-zoo3 does it: Ctrl-C ends learn(), and the model is saved.
    model = ppo()
    interrupt_update(model, at)
    with pytest.raises(KeyboardInterrupt):
        model.learn(6 * ITERATION, callback=implicit_learner(interleave=True))
    mend(model)
    model.save(tmp_path / "model")
    assert PPO.load(tmp_path / "model").n_epochs == SMALL["n_epochs"]


@pytest.mark.parametrize("where", ["rollout_start", "step", "rollout_end"])
@pytest.mark.parametrize(("behind", "settings"), [(True, {}), (False, {}), (True, {"interleave": True})])
def test_after_an_interrupt_in_a_callback_learning_goes_on(where, behind, settings):
    model, learner = ppo(vec_env(2)), implicit_learner(**settings)
    expected = buffer_of(model)

    def interrupt(watch):
        if watch.model.num_timesteps >= 2 * ITERATION:
            raise KeyboardInterrupt

    callbacks = [learner, Watch(**{where: interrupt})]
    with pytest.raises(KeyboardInterrupt):
        model.learn(6 * ITERATION, callback=callbacks if behind else callbacks[::-1])
    model.learn(2 * ITERATION, callback=learner, reset_num_timesteps=False)
    assert buffer_of(model) == expected
    assert model.n_epochs == SMALL["n_epochs"]
    assert not not_finite(all_of(model, learner))


@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("settings", [{}, {"interleave": True}], ids=str)
def test_after_an_interrupted_update_tareppo_is_whole_at_once(at, settings, monkeypatch):
    model = tare(**settings)
    expected, evaluate, calls = buffer_of(model), model.policy.evaluate_actions, []
    train = LeanPPO.train

    def count(self):
        calls.append(None)
        train(self)

    def evaluate_or_raise(*args, **kwargs):
        if len(calls) == at:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(LeanPPO, "train", count)
    monkeypatch.setattr(model.policy, "evaluate_actions", evaluate_or_raise)
    with pytest.raises(KeyboardInterrupt):
        model.learn(6 * ITERATION)
    monkeypatch.undo()
    assert buffer_of(model) == expected
    assert model.n_epochs == SMALL["n_epochs"]
    model.learn(2 * ITERATION)
    assert not not_finite(all_of(model))


def test_a_model_with_an_attached_callback_may_be_saved_during_training(tmp_path):
    model, learner = ppo(), implicit_learner()
    paths = []

    def save(watch):
        if watch.num_timesteps % 50 == 0:
            paths.append(tmp_path / f"{watch.num_timesteps}.zip")
            watch.model.save(paths[-1])

    model.learn(2 * ITERATION, callback=[Watch(step=save), learner])
    loaded = PPO.load(paths[-1], env=vec_env())
    assert type(loaded.rollout_buffer) is RolloutBuffer
    loaded.learn(ITERATION)


def test_the_callback_reads_the_policy_and_never_writes_it():
    model, learner = ppo(learning_rate=0.0), implicit_learner(n_reward_updates=3)
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(3 * ITERATION, callback=learner)
    assert not differences(before, model.policy.state_dict())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.policy.parameters() if parameter.grad is not None)
