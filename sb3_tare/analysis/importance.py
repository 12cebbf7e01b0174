"""Importance of what a learned reward looks at: how far rewards move when one entry is shuffled among steps.

A learned reward f is explained by itself, so that there is no error to begin with, and what shuffling entry j makes of it is
Breiman's (2001) permutation importance, the model reliance of Fisher, Rudin & Dominici (2019), under squared loss. Here it is
put in proportion to what there is to explain:

    importance_j = E (f(x with x_j of another step) - f(x))^2 / (2 Var f(x))

It is 0 for an entry that is not used. Where f is a sum of functions of one entry each, it is that entry's own variance over
the whole one; where entries are independent too, these shares sum to 1, and in general it is Sobol's total effect, estimated
as Jansen (1999) does. Entries that go together, as positions and velocities do, or that matter together, can have more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from gymnasium import spaces
from torch import Tensor

from sb3_tare import LearnedReward
from sb3_tare.analysis.trajectories import Trajectories, learned_rewards
from sb3_tare.data.episodes import Episodes

SHUFFLES = 5
"""Shuffles of each entry whose importances are averaged."""


class InexplicableError(ValueError):
    """Nothing can be said of what a learned reward looks at."""


def importances(
    reward: LearnedReward, steps: Trajectories, names: Sequence[str] = (), n_shuffles: int = SHUFFLES, seed: int = 0
) -> dict[str, float]:
    """Permutation importance of each entry of observations and actions, and of the extrinsic reward, which networks may see.

    Steps are shuffled among those of all episodes, for networks that see whole episodes too: an entry then keeps its
    distribution, and loses its order in time as well as what it has to do with the others, so that all that a network makes
    of it counts, the memory of earlier steps included.

    :param reward: what was learned
    :param steps: n of them, at least two
    :param names: of an observation's entries (:func:`~sb3_tare.analysis.naming.observation_names`); none: by number
    :param n_shuffles: of each entry, the same ones for all entries
    :param seed: of the shuffles
    :return: shares of the learned reward's variance by name: of the observation's entries, ``"action 0"`` and so on, and
        ``"extrinsic reward"``; one of several, a ``Discrete``, is a single entry
    :raises InexplicableError: if observations or actions are neither vectors nor one of several, or the learned rewards of
        the steps do not vary
    :raises ValueError: if there is another number of names
    """
    _check_spaces(reward)
    # All shuffles at once: a network that goes through episodes step by step takes hardly longer for more of them.
    many = _repeated(steps, n_shuffles)
    n, generator = len(steps.rewards), torch.Generator().manual_seed(seed)
    rows = torch.cat([torch.randperm(n, generator=generator) for _ in range(n_shuffles)])
    original = learned_rewards(reward, many).double()
    if original.max() == original.min():
        raise InexplicableError("the learned reward is the same at all steps")
    variance = original[:n].var(correction=0)
    return {
        name: float((learned_rewards(reward, shuffled).double() - original).square().mean() / (2.0 * variance))
        for name, shuffled in _shuffled(many, rows, names)
    }


def _check_spaces(reward: LearnedReward) -> None:
    for kind, space in (("observations", reward.observation_space), ("actions", reward.action_space)):
        if not (isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and len(space.shape) == 1)):
            raise InexplicableError(
                f"importances are of a Box of one dimension, entry by entry, or a Discrete, and {kind} are of {space}"
            )


def _repeated(steps: Trajectories, times: int) -> Trajectories:
    """The same episodes several times over."""
    each = steps.episodes
    return replace(
        steps,
        observations=torch.cat([_table(steps)] * times),
        actions=torch.cat([steps.actions] * times),
        rewards=torch.cat([steps.rewards] * times),
        episodes=Episodes(each.lengths.repeat(times), each.first_times.repeat(times), each.ends.repeat(times)),
    )


def _shuffled(steps: Trajectories, rows: Tensor, names: Sequence[str]) -> Iterator[tuple[str, Trajectories]]:
    """The steps with one entry each taken from other ``rows`` ``[n]``, by that entry's name."""
    for name, observations in _with_entries_of(rows, _table(steps), "observation", names):
        yield name, replace(steps, observations=observations)
    for name, actions in _with_entries_of(rows, steps.actions, "action"):
        yield name, replace(steps, actions=actions)
    yield "extrinsic reward", replace(steps, rewards=steps.rewards[rows])


def _with_entries_of(rows: Tensor, table: Tensor, kind: str, names: Sequence[str] = ()) -> Iterator[tuple[str, Tensor]]:
    """Copies of ``[n, entries]``, or of ``[n]``, with one column each taken from other rows, by name."""
    if table.dim() == 1:
        yield kind, table[rows]
        return
    n_entries = table.shape[1]
    if len(names) not in (0, n_entries):
        raise ValueError(f"names must be of all {n_entries} entries of an {kind}, or none, got {len(names)}")
    for entry, name in enumerate(names or [f"{kind} {entry}" for entry in range(n_entries)]):
        changed = table.clone()
        changed[:, entry] = table[rows, entry]
        yield name, changed


def _table(steps: Trajectories) -> Tensor:
    assert isinstance(steps.observations, Tensor)
    return steps.observations
