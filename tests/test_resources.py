"""What a run asks of a cluster, counted node by node, and what is said where it does not fit."""

from pathlib import Path

import pytest
from ray._private.label_utils import validate_label_selector
from ray.exceptions import RaySystemError

from toposampler.config import ClusterConfig, validate
from toposampler.distributed.capacity import Watch, _wait, nodes, wait_for_resources
from toposampler.distributed.resources import Node, chosen, description, on_this_machine, shortage, workers_on
from toposampler.distributed.trainer import backend, scaling
from toposampler.errors import UserError


def node(name: str, free: dict[str, float] | None = None, **total: float) -> Node:
    return Node(name, total, total if free is None else free)


@pytest.mark.parametrize(
    ("bundle", "has", "workers"),
    [
        ({"CPU": 2.0}, {"CPU": 5.0}, 2),
        ({"CPU": 1.0, "GPU": 1.0}, {"CPU": 5.0}, 0),
        ({"CPU": 1.0, "GPU": 0.2}, {"CPU": 16.0, "GPU": 1.0}, 5),  # 1.0 // 0.2 is 4
        ({"CPU": 1.0, "GPU": 0.6}, {"CPU": 16.0, "GPU": 2.0}, 2),  # a share lies on one GPU: not 3
        ({"CPU": 1.0, "GPU": 0.5}, {"CPU": 16.0, "GPU": 1.5}, 3),
        ({"CPU": 1.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 3.0}, 1),
        ({"CPU": 1.0, "disk": 0.1}, {"CPU": 16.0, "disk": 0.3}, 3),  # 0.3 // 0.1 is 2
    ],
)
def test_workers_on_a_node(bundle: dict[str, float], has: dict[str, float], workers: int) -> None:
    assert workers_on(bundle, has) == workers


def test_what_fits_is_not_refused() -> None:
    two = [node("a", CPU=2.0, GPU=1.0), node("b", CPU=2.0, GPU=1.0)]
    assert shortage(ClusterConfig(num_workers=4), two, "here") is None
    assert shortage(ClusterConfig(num_workers=2, use_gpu=True, placement_strategy="STRICT_SPREAD"), two, "here") is None
    assert shortage(ClusterConfig(num_workers=9, min_workers=3), two, "here") is None


def test_the_process_that_evaluates_needs_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ClusterConfig(num_workers=2, cpus_per_worker=2, evaluate_beside=True)
    assert shortage(config, [node("a", CPU=6.0)], "here") is None
    assert shortage(config, [node("a", CPU=3.0), node("b", CPU=4.0)], "here") is None
    strict = config.model_copy(update={"placement_strategy": "STRICT_PACK"})
    assert shortage(strict, [node("a", CPU=4.0), node("b", CPU=2.0)], "here") is None
    for nodes_ in ([node("a", CPU=5.0)], [node("a", CPU=3.0), node("b", CPU=3.0)]):
        assert shortage(config, nodes_, "here") == (
            "here has room for 2 workers (each 2 CPU), but not for the process that evaluates beside them, on 2 CPU "
            "more: set cluster.evaluate_beside false, or cluster.num_workers or cluster.cpus_per_worker to less"
        )
    monkeypatch.setattr("toposampler.distributed.resources.this_machine", lambda: node("a", CPU=8.0))
    assert on_this_machine(config) == {"CPU": 6.0}
    assert on_this_machine(config.model_copy(update={"num_workers": 9})) == {"CPU": 8.0}
    assert description(config) == "2 (each 2 CPU), and 2 CPU to evaluate"


@pytest.mark.parametrize(
    ("selector", "nodes_"),
    [
        ({}, "abc"),
        ({"zone": "west"}, "a"),
        ({"zone": "!west"}, "bc"),  # a label that a node lacks is unlike any value
        ({"zone": "in(west, east)"}, "ab"),
        ({"zone": "!in(west,east)"}, "c"),
        ({"zone": "in(west,east)", "disk": "fast"}, "b"),
        ({"zone": "north"}, ""),
    ],
)
def test_nodes_are_chosen_by_their_labels(selector: dict[str, str], nodes_: str) -> None:
    labels = {"a": {"zone": "west"}, "b": {"zone": "east", "disk": "fast"}, "c": {"ray.io/node-id": "1"}}
    there = [Node(name, {"CPU": 1.0}, {"CPU": 1.0}, of_node) for name, of_node in labels.items()]
    config = ClusterConfig(label_selector=selector)
    assert "".join(found.name for found in chosen(config, there)) == nodes_
    assert (shortage(config, there, "here") is None) == bool(nodes_)


def test_labels_that_no_node_has_are_named_with_those_there_are() -> None:
    there = [Node("a", {"CPU": 1.0}, {"CPU": 1.0}, {"zone": "west", "ray.io/node-id": "1"}), node("b", CPU=1.0)]
    assert shortage(ClusterConfig(label_selector={"zone": "north"}), there, "the cluster") == (
        "cluster.label_selector zone=north: no node of the cluster has these labels\n"
        "  a: zone=west\n"
        "  b: no labels but those Ray gives\n"
        "  labels are given where a node is started: ray start --labels KEY=VALUE"
    )


def test_labels_choose_the_nodes_that_are_counted() -> None:
    there = [Node(zone, {"CPU": 2.0}, {"CPU": 2.0}, {"zone": zone}) for zone in ("west", "east")]
    said = shortage(ClusterConfig(num_workers=3, label_selector={"zone": "west"}), there, "here")
    assert said is not None
    assert said.startswith("here has room for 2 of 3 workers (each 1 CPU): 3 CPU required, 2 available")
    assert "cluster.label_selector zone=west" in said
    assert scaling(ClusterConfig(label_selector={"zone": "west"})).label_selector == {"zone": "west"}
    assert scaling(ClusterConfig()).label_selector is None
    assert description(ClusterConfig(label_selector={"zone": "!west"})) == "1 (each 1 CPU), on nodes with zone=!west"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"zone": "a b"}, "zone: 'a b' is not VALUE, !VALUE"),
        ({"zone": "in()"}, "zone: 'in()' is not VALUE"),
        ({"zo ne": "a"}, "'zo ne' is no key of a label"),
        ({"a" * 64: "a"}, "is no key of a label"),
    ],
)
def test_labels_that_ray_would_not_take(labels: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(ClusterConfig, {"label_selector": labels})
    assert said in str(caught.value)
    assert validate_label_selector(labels) is not None


def test_labels_that_ray_takes() -> None:
    labels = {"example.com/zone": "!in(a,b)", "ray.io/market-type": "spot", "x": "!y.z"}
    assert validate_label_selector(labels) is None
    assert validate(ClusterConfig, {"label_selector": labels}).label_selector == labels


def test_too_little_in_all() -> None:
    config = ClusterConfig(num_workers=3, cpus_per_worker=2, use_gpu=True)
    assert shortage(config, [node("a", CPU=5.0)], "the cluster") == (
        "the cluster has room for 0 of 3 workers (each 2 CPU, 1 GPU): 6 CPU required, 5 available; 3 GPU required, 0 "
        "available\n"
        "  a: room for 0 workers (5 CPU, 0 GPU)\n"
        "  asked for by cluster.num_workers 3, cluster.cpus_per_worker 2, cluster.gpus_per_worker 1"
    )


def test_enough_in_all_but_on_no_node() -> None:
    said = shortage(ClusterConfig(num_workers=2, cpus_per_worker=2), [node("a", CPU=3.0), node("b", CPU=1.0)], "here")
    assert said is not None
    assert (
        "room for 1 of 2 workers (each 2 CPU): 4 CPU required, 4 CPU free in all, but not as the workers need" in said
    )
    assert "  a: room for 1 worker (3 CPU)\n  b: room for 0 workers (1 CPU)" in said


@pytest.mark.parametrize(("strategy", "number"), [("STRICT_PACK", 2), ("STRICT_SPREAD", 2)])
def test_strict_placements(strategy: str, number: int) -> None:
    config = ClusterConfig.model_validate({"num_workers": 3, "placement_strategy": strategy})
    said = shortage(config, [node("a", CPU=2.0), node("b", CPU=2.0)], "here")
    assert said is not None
    assert said.startswith(f"here has room for {number} of 3 workers")
    assert f"cluster.placement_strategy {strategy} (" in said


def test_what_others_use_now_is_told_from_what_is_not_there() -> None:
    said = shortage(ClusterConfig(num_workers=2), [node("a", CPU=4.0, free={"CPU": 1.0})], "here")
    assert said is not None
    assert "2 CPU required, 1 free of 4" in said
    assert "a: room for 1 worker (1 free of 4 CPU)" in said


def test_only_the_first_of_many_nodes_are_told() -> None:
    said = shortage(ClusterConfig(num_workers=99), [node(f"n{i}", CPU=1.0) for i in range(20)], "here")
    assert said is not None
    assert "n7" in said
    assert "n8" not in said
    assert "and 12 nodes more" in said


def test_waiting_says_once_what_is_missing_and_ends_when_it_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = [[node("a", CPU=1.0)], [node("a", CPU=1.0)], [node("a", CPU=1.0), node("b", CPU=1.0)]]
    monkeypatch.setattr("toposampler.distributed.capacity.nodes", lambda: looks.pop(0))
    monkeypatch.setattr("toposampler.distributed.capacity.LOOK_EVERY_S", 0.01)
    assert _wait(ClusterConfig(num_workers=2), "here", seconds=60) is None
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("waiting, 60 s left: here has room for 1 of 2 workers")] == lines[
        :1
    ]
    assert len(lines) == 3, "with the node and the keys"


@pytest.mark.parametrize(("wait_s", "waited"), [(0.0, ""), (0.02, "waited 0.02 s; ")])
def test_a_refusal_says_how_to_wait(monkeypatch: pytest.MonkeyPatch, wait_s: float, waited: str) -> None:
    monkeypatch.setattr("toposampler.distributed.capacity.nodes", lambda: [node("a", CPU=1.0)])
    monkeypatch.setattr("toposampler.distributed.capacity.request_resources", lambda **_: None)
    with pytest.raises(UserError) as caught:
        wait_for_resources(ClusterConfig(num_workers=2, wait_s=wait_s), "here")
    assert str(caught.value).endswith(f"\n  {waited}set cluster.wait_s to the seconds to wait for it")


def test_a_description_names_shares_ranges_and_placement() -> None:
    config = ClusterConfig(
        num_workers=4, min_workers=2, use_gpu=True, gpus_per_worker=0.25, resources_per_worker={"disk": 1},
        placement_strategy="SPREAD",
    )  # fmt: skip
    assert description(config) == "2 to 4 (each 1 CPU, 0.25 GPU, 1 disk), SPREAD"


def test_a_ray_of_its_own_has_what_the_workers_that_fit_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposampler.distributed.resources.this_machine", lambda: node("a", CPU=8.0, GPU=2.0))
    shared = ClusterConfig(num_workers=3, use_gpu=True, gpus_per_worker=0.5)
    assert on_this_machine(shared) == {"CPU": 3.0, "GPU": 2.0}
    assert on_this_machine(ClusterConfig(num_workers=9, min_workers=1, cpus_per_worker=2)) == {"CPU": 8.0}


def test_what_ray_train_is_asked_for() -> None:
    fixed = scaling(ClusterConfig(num_workers=2, placement_strategy="SPREAD"))
    assert (fixed.num_workers, fixed.placement_strategy) == (2, "SPREAD")
    elastic = scaling(ClusterConfig(num_workers=5, min_workers=2, use_gpu=True, gpus_per_worker=0.2))
    assert elastic.num_workers == (2, 5)
    assert elastic.resources_per_worker is not None
    assert 1.0 // elastic.resources_per_worker["GPU"] == 5
    assert elastic.resources_per_worker["CPU"] == 1.0


def test_nccl_only_where_every_worker_has_a_gpu_of_its_own() -> None:
    assert backend(ClusterConfig()) == "gloo"
    assert backend(ClusterConfig(use_gpu=True)) == "nccl"
    assert backend(ClusterConfig(use_gpu=True, gpus_per_worker=0.5)) == "gloo"


def test_a_run_that_stands_still_for_want_of_machines_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    there = [node("a", CPU=1.0, free={"CPU": 0.0}), node("b", CPU=1.0)]
    monkeypatch.setattr("toposampler.distributed.capacity.nodes", lambda: there)
    metrics = tmp_path / "metrics.jsonl"
    watch = Watch(ClusterConfig(num_workers=2), metrics)
    del there[1]  # lost for good
    watch.refresh()
    assert capsys.readouterr().err == "", "it has only just begun"
    monkeypatch.setattr("toposampler.distributed.capacity.STILL_S", 0.0)
    watch.refresh()
    watch.refresh()
    said = capsys.readouterr().err
    assert said.count("waits until machines are back: the cluster has room for 1 of 2 workers") == 1
    there.append(node("b", CPU=1.0))
    watch.refresh()
    assert capsys.readouterr().err == "", "what the run itself uses is not missing"
    del there[1]
    monkeypatch.setattr("toposampler.distributed.capacity.STILL_S", 60.0)
    metrics.touch()
    watch.refresh()
    assert capsys.readouterr().err == "", "it goes on"


def test_a_watch_minds_no_lost_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RaySystemError):
        nodes()  # what Ray raises where it is not connected, for real
    monkeypatch.setattr("toposampler.distributed.capacity.STILL_S", 0.0)
    Watch(ClusterConfig(), tmp_path / "metrics.jsonl").refresh()
