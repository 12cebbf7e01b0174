"""No part of the package changes a setting of the process, and models in two threads do not see each other."""

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C
from test_second_derivatives import OnItself, host
from torch import nn
from torch.distributions import Distribution
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from toys import (
    SMALL,
    TINY_NET,
    all_of,
    awr,
    awr_of,
    differences,
    generators,
    implicit_learner,
    not_finite,
    policy_of,
    tare,
    tare_awr,
    vec_env,
)

from sb3_tare import LIRPG, LearnedReward
from sb3_tare.policy.kernels import differentiable_kernels


def settings() -> dict[str, Any]:
    """Settings of the process that every thread sees."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "validation of distributions": Distribution._validate_args,
        "kernels": (cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cuda.mem_efficient_sdp_enabled()),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "type": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "warnings": list(warnings.filters),
        "errors of numpy": np.geterr(),
    }


def attention(**reward_kwargs: Any) -> Any:
    return tare(host=host(lambda: OnItself(nn.MultiheadAttention(8, 2, batch_first=True))), **reward_kwargs)


def lirpg() -> LIRPG:
    return LIRPG("MlpPolicy", vec_env(), reward_kwargs={"zero_head": True}, **SMALL)


def a2c() -> Any:
    return A2C("MlpPolicy", vec_env(), n_steps=64, seed=0, policy_kwargs=dict(TINY_NET))


LEARN: dict[str, Callable[[], Any]] = {
    "TAREPPO": lambda: tare().learn(2 * 64),
    "general loops": lambda: tare(host={"policy_kwargs": {"net_arch": [8], "activation_fn": nn.ELU}}).learn(2 * 64),
    "attention": lambda: attention().learn(2 * 64),
    "decomposition": lambda: tare(preset="decomposition", decomposition_updates=2).learn(2 * 64),
    "AWR": lambda: awr().learn(2 * 64),
    "TAREAWR": lambda: tare_awr().learn(2 * 64),
    "LIRPG": lambda: lirpg().learn(2 * 64),
    "A2C": lambda: a2c().learn(2 * 64, callback=implicit_learner()),
}


@pytest.mark.parametrize("name", LEARN)
def test_no_other_thread_ever_sees_another_setting_while_a_model_learns(name):
    """Looked at by another thread at every fiftieth call of a function, which waits meanwhile."""
    LEARN[name]()  # torch and others import more when it is first asked for, and import as they like
    before, seen, calls = settings(), [], 0
    with ThreadPoolExecutor(1) as other:

        def look(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls % 50 == 0:
                now = other.submit(settings).result()
                seen.extend(key for key in before if now[key] != before[key])

        sys.setprofile(look)
        try:
            LEARN[name]()
        finally:
            sys.setprofile(None)
    assert calls > 1000
    assert not seen
    assert settings() == before


def test_kernels_that_can_be_differentiated_twice_are_of_one_thread_alone():
    def second_derivative() -> bool:
        x = torch.ones(1, 1, 3, 4, requires_grad=True)
        (first,) = torch.autograd.grad(scaled_dot_product_attention(x, x, x).square().sum(), x, create_graph=True)
        try:
            torch.autograd.grad(first.square().sum(), x)
        except RuntimeError as error:
            return "derivative for" not in str(error)
        return True

    with ThreadPoolExecutor(1) as other, differentiable_kernels():
        assert second_derivative()
        assert not other.submit(second_derivative).result()
    assert not second_derivative()


def test_attention_by_its_plain_formula_is_torchs_to_the_last_bit():
    torch.manual_seed(0)
    x, layer = torch.randn(3, 5, 8), nn.MultiheadAttention(8, 2, batch_first=True)
    heads, mask = torch.randn(3, 2, 5, 4), torch.ones(5, 5, dtype=torch.bool).tril()
    made = {
        "plain": lambda: scaled_dot_product_attention(heads, heads, heads),
        "causal": lambda: scaled_dot_product_attention(heads, heads, heads, is_causal=True, scale=0.3),
        "masked": lambda: scaled_dot_product_attention(heads, heads, heads, mask),
        "added": lambda: scaled_dot_product_attention(heads, heads, heads, attn_mask=mask.float()),
        "module": lambda: layer(x, x, x, need_weights=False)[0],
        "weights": lambda: torch.cat(layer(x, x, x), dim=2),
        "masked module": lambda: layer(x, x, x, attn_mask=~mask, need_weights=False)[0],
    }
    for name, make in made.items():
        with sdpa_kernel(SDPBackend.MATH):
            expected = make()
        with differentiable_kernels():
            assert torch.equal(make(), expected), name


def test_two_models_learn_in_two_threads():
    """Their random numbers are the process's, as SB3 draws them; all else is their own."""
    before = settings()
    with ThreadPoolExecutor(3) as threads:
        models = [thread.result() for thread in [threads.submit(LEARN[name]) for name in ("attention", "TAREAWR", "TAREPPO")]]
    for model, state in zip(models, (all_of, awr_of, all_of), strict=True):
        assert model.num_timesteps == 2 * 64
        assert not not_finite(state(model))
    assert settings() == before


def test_a_model_that_learns_alone_learns_the_same_beside_a_thread_that_holds_other_kernels():
    alone = policy_of(attention().learn(2 * 64))
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with differentiable_kernels():
            inside.set()
            done.wait(60)

    with ThreadPoolExecutor(1) as other:
        held = other.submit(hold)
        inside.wait(60)
        beside = policy_of(attention().learn(2 * 64))
        done.set()
        held.result()
    assert not differences(alone, beside)


def test_exporting_and_loading_a_reward_draws_no_random_number(tmp_path):
    model = tare().learn(64)
    before = [repr(state) for state in (*generators()[:2], generators()[2].tolist())]
    LearnedReward.of(model).save(tmp_path / "reward")
    LearnedReward.load(tmp_path / "reward")
    model.save(tmp_path / "model")
    assert [repr(state) for state in (*generators()[:2], generators()[2].tolist())] == before


IMPORTS = """
import logging, os, random, signal, sys, warnings
import gymnasium, numpy, sb3_contrib, stable_baselines3, torch
from torch.distributions import Distribution

def settings():
    sdp = torch.backends.cuda
    return [
        random.getstate(), [each.tolist() if hasattr(each, "tolist") else each for each in numpy.random.get_state()],
        torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(), Distribution._validate_args,
        [sdp.flash_sdp_enabled(), sdp.math_sdp_enabled()], numpy.geterr(), numpy.get_printoptions(), list(warnings.filters),
        sys.getrecursionlimit(), sys.excepthook, signal.getsignal(signal.SIGINT), dict(os.environ),
        logging.root.level, list(logging.root.handlers), sys.path, sys.getswitchinterval(),
    ]

before = settings()
import pkgutil, importlib, sb3_tare
apart = ("experiments", "analysis", "zoo", "hub", "minigrid", "__main__")  # which import what extras bring
names = [each.name for each in pkgutil.walk_packages(sb3_tare.__path__, "sb3_tare.") if not any(n in each.name for n in apart)]
for name in names:
    importlib.import_module(name)
assert len(names) > 80
for number, (mine, theirs) in enumerate(zip(before, settings())):
    assert mine == theirs, number
"""


def test_importing_changes_no_setting_and_draws_no_random_number():
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
