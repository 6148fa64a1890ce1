"""Communities of the neighbor graph: the graph by hand, modularity against networkx, handwriting beside noise."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from toposampler.topology.communities import (
    Communities,
    find_communities,
    modularity_by_chance,
    shared_neighbor_graph,
)


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray, NDArray]:
    found = load_digits()
    return found.data, found.target


def partition(labels: NDArray) -> list[set[int]]:
    return [set(np.flatnonzero(labels == k).tolist()) for k in range(labels.max() + 1)]


@pytest.mark.parametrize("k", [1, 3, 50])
def test_links_weigh_what_neighborhoods_share(k: int) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    graph = shared_neighbor_graph(x, k).toarray()
    order = np.argsort(cdist(x, x), axis=1)[:, : k + 1]
    hoods = [set(row) for row in order.tolist()]
    for i in range(40):
        for j in range(40):
            linked = i != j and (j in hoods[i] or i in hoods[j])
            expected = len(hoods[i] & hoods[j]) / len(hoods[i] | hoods[j]) if linked else 0
            assert graph[i, j] == pytest.approx(expected)


def test_modularity_is_networkx_s(digits: tuple[NDArray, NDArray]) -> None:
    x = digits[0][:500]
    found = find_communities(x, 15)
    graph = networkx.from_scipy_sparse_array(shared_neighbor_graph(x, 15))
    whole = networkx.community.modularity(graph, partition(found.labels))
    assert found.modularity == pytest.approx(whole)
    joined = found.joined(4)
    assert joined.count == 4
    assert joined.modularity == pytest.approx(networkx.community.modularity(graph, partition(joined.labels)))
    louvain = networkx.community.louvain_communities(graph, seed=0)  # another package's
    assert found.modularity >= networkx.community.modularity(graph, louvain) - 0.002


def test_handwriting_has_communities_of_one_digit_each(digits: tuple[NDArray, NDArray]) -> None:
    x, y = digits
    found = find_communities(x)
    assert 10 <= found.count <= 15
    assert sum(np.bincount(y[found.labels == k]).max() for k in range(found.count)) / len(y) > 0.93
    sizes = np.bincount(found.labels)
    assert (np.diff(sizes) <= 0).all()
    graph = shared_neighbor_graph(x, 30)
    for k in range(found.count):  # each is in one piece
        members = np.flatnonzero(found.labels == k)
        assert connected_components(graph[members][:, members])[0] == 1
    assert found.modularity - modularity_by_chance(x) > 0.3
    assert np.array_equal(find_communities(x).labels, found.labels)


@pytest.mark.parametrize("d", [2, 10])
def test_normal_points_have_no_more_than_by_chance(d: int) -> None:
    x = np.random.default_rng(1).normal(size=(1000, d)) * np.linspace(1, 3, d)
    assert abs(find_communities(x).modularity - modularity_by_chance(x)) < 0.02


def test_small_communities_join_those_with_the_most_links_beyond_chance() -> None:
    links = np.array([[0.40, 0.02, 0.00], [0.02, 0.40, 0.04], [0.00, 0.04, 0.08]])
    labels = np.repeat([0, 1, 2], [30, 40, 5])
    found = Communities(labels, links)
    assert found.modularity == pytest.approx(0.88 - 0.42**2 - 0.46**2 - 0.12**2)
    kept = found.joined(3, smallest=5)
    assert np.bincount(kept.labels).tolist() == [40, 30, 5]  # the largest first
    assert kept.links[0, 0] == pytest.approx(0.40)
    assert kept.links[0, 2] == pytest.approx(0.04)
    joined = found.joined(3, smallest=6)
    assert np.bincount(joined.labels).tolist() == [45, 30]
    assert joined.links == pytest.approx(np.array([[0.56, 0.02], [0.02, 0.40]]))
    assert np.bincount(found.joined(1).labels).tolist() == [75]


def test_few_or_equal_points() -> None:
    assert find_communities(np.random.default_rng(0).normal(size=(29, 2))).count == 1
    assert find_communities(np.zeros((100, 2))).count >= 1
    assert modularity_by_chance(np.zeros((100, 2))) < 1
