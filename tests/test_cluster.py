"""Studies on a Ray cluster of two nodes on this machine, one of which dies."""

import time

import pytest
import ray
from ray._private.state import available_resources_per_node
from ray.cluster_utils import Cluster

from sb3_tare.experiments.running.cluster import cluster
from sb3_tare.experiments.running.engines import Done, Failed
from sb3_tare.experiments.running.training import train
from sb3_tare.experiments.studies import jobs_of


def wait_until_busy(node_id: str) -> None:
    deadline = time.monotonic() + 60
    while available_resources_per_node()[node_id].get("CPU", 0.0) > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_every_job_ends_once_with_the_local_result_though_a_node_dies_and_one_that_raises_is_told(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    good = jobs_of("figure6", 1, ["ppo", "tare_mlpmul"], ["Pendulum-v1"], 256, {"n_steps": 64}, evaluations=2)
    bad = jobs_of("figure6", 1, ["ppo"], ["Pendulum-v1"], 256, {"n_steps": -1}, evaluations=2)
    two_nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed = two_nodes.add_node(num_cpus=1)
        updates = cluster([*bad, *good], two_nodes.address)
        ended = [next(updates)]
        wait_until_busy(doomed.node_id)
        two_nodes.remove_node(doomed, allow_graceful=False)
        ended += updates
    finally:
        two_nodes.shutdown()
    assert not ray.is_initialized()
    (failed,) = [update for update in ended if isinstance(update, Failed)]
    assert failed.job == bad[0]
    assert "Traceback" in failed.why
    done = [update for update in ended if isinstance(update, Done)]
    assert sorted(update.job.name for update in done) == ["ppo", "tare_mlpmul"]
    for update in done:
        assert {key: value for key, value in update.result.items() if key != "made"} == train(update.job).result
