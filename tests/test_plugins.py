"""Systems, data sets, networks and metrics from outside the package: registered, or by entry points of another one."""

from __future__ import annotations

import importlib
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor

import toposampler
from toposampler.config import describe, flatten, validate
from toposampler.data import SETS, DataConfig, Dataset
from toposampler.errors import UserError
from toposampler.evaluation.results import Estimate, Row
from toposampler.evaluation.table import table
from toposampler.keys import may, may_branch, ready_ranges
from toposampler.metrics import registered
from toposampler.metrics.catalog import FURTHER, kind_of
from toposampler.metrics.evaluate import evaluate
from toposampler.metrics.registered import METRICS
from toposampler.nn.families import NETWORKS
from toposampler.plugins import KINDS, Registered, datasets, systems
from toposampler.systems import SYSTEM_CLASSES, SYSTEMS, SystemConfig
from toposampler.systems.wgan_gp import WGANGPConfig
from toposampler.training import RunConfig, load_model, train
from toposampler.training.config import run_folder

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a test registers, or has another package plug in, is unknown to the next."""
    before = {kind: (dict(registry._registered), registry._found) for kind, registry in KINDS.items()}
    yield
    for kind, registry in KINDS.items():
        registry._registered, registry._found = before[kind]
    registered._left_out.clear()


PLUG_IN = '''
"""A package of others."""
from typing import Literal
import torch
from toposampler.data import DataConfig, Dataset
from toposampler.systems.wgan_gp import WGANGPConfig

class OtherGAN(WGANGPConfig):
    """OtherGAN (Somebody 2030): WGAN-GP by another name."""
    name: Literal["other_gan"] = "other_gan"

class Corners(DataConfig):
    """The corners of a square."""
    name: Literal["corners"] = "corners"
    def load(self):
        return Dataset(torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]).repeat(50, 1))

class Thief(WGANGPConfig):
    """It would take another page's place."""
    name: Literal["dmgan"] = "dmgan"

def spread(real, samples):
    return float(samples.std())

NUMBER = 3
'''
ENTRY_POINTS = """
[toposampler.systems]
other_gan = plug_in:OtherGAN
absent = plug_in_that_is_not_there:Page
thief = plug_in:Thief
number = plug_in:NUMBER

[toposampler.data]
corners = plug_in:Corners

[toposampler.metrics]
spread = plug_in:spread
"""


@pytest.fixture
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution that is installed in a folder: a good system, data set and metric, and three broken systems."""
    site = tmp_path / "site"
    info = site / "plug_in-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "plug_in.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    for registry in KINDS.values():
        registry._found = None
    yield
    sys.modules.pop("plug_in", None)


def test_entry_points_are_trained_and_loaded_and_broken_ones_named_once(
    plugged_in: None, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = make_config("other_gan", data={"name": "corners"}, training__generator_steps=5)
        make_config("other_gan")
    left_out = [record.getMessage() for record in caplog.records]
    assert left_out == [
        "the system absent = plug_in_that_is_not_there:Page of plug-in 1.2 is left out: ModuleNotFoundError: No module "
        "named 'plug_in_that_is_not_there'",
        "the system number = plug_in:NUMBER of plug-in 1.2 is left out: is no subclass of SystemConfig, as a system "
        "must be",
        "the system thief = plug_in:Thief of plug-in 1.2 is left out: the name 'dmgan' is taken by "
        "toposampler.systems.dmgan:DMGANConfig of toposampler",
    ]
    result = train(config)
    assert result is not None
    assert result["metrics"]["spread"] > 0
    x, _ = load_model(run_folder(config)).sample(7)
    assert x.shape == (7, 2)
    listed = {entry.name: (entry.origin, entry.about) for entry in systems()}
    assert listed["other_gan"] == ("plug-in 1.2", "OtherGAN (Somebody 2030): WGAN-GP by another name.")
    assert listed["dmgan"][0] == "toposampler"
    assert {entry.name for entry in datasets()} >= {"corners", "lines"}


class PulledConfig(WGANGPConfig):
    """A page that a notebook might hold."""

    name: Literal["pulled"] = "pulled"  # type: ignore[assignment]
    pull: float = Field(1.0, json_schema_extra=may(branch=True, search={"uniform": [0, 2]}))


def test_a_page_that_is_registered_later_is_known_everywhere(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="'pulled' is not known"):
        make_config("pulled")
    assert toposampler.register(PulledConfig) is PulledConfig
    config = make_config("pulled", system__pull=0.5)
    assert isinstance(config.system, PulledConfig)
    assert validate(RunConfig, config.model_dump(mode="json")) == config
    assert flatten(config.model_dump(mode="json"))["system.pull"] == 0.5
    rows = {key: meaning for key, _, meaning in describe(RunConfig)}
    assert "system.pull (pulled)" in rows
    assert "pulled" in rows["system.name"]
    assert may_branch(config, "system.pull")
    assert ready_ranges(config)["system.pull"] == {"uniform": [0, 2]}
    with pytest.raises(UserError, match=r"system.pul: unknown key. Did you mean 'pull'\?"):
        make_config("pulled", system__pul=1)
    with pytest.raises(UserError, match=r"'puled' is not known. Did you mean 'pulled'\?"):
        make_config("puled")


class Pairs(DataConfig):
    """Two points."""

    name: Literal["pairs"] = "pairs"

    def load(self) -> Dataset:
        """See the base."""
        return Dataset(torch.tensor([[0.0], [1.0]]).repeat(100, 1))


def test_a_data_set_is_registered(make_config: MakeConfig) -> None:
    toposampler.register(Pairs)
    assert make_config("wgan_gp", data={"name": "pairs"}).data.load().shape == (1,)


def test_a_cell_may_be_run_again_but_no_name_taken() -> None:
    again = type("PulledConfig", (PulledConfig,), {"__module__": __name__, "__qualname__": "PulledConfig"})
    toposampler.register(PulledConfig)
    toposampler.register(again)
    assert SYSTEM_CLASSES.find("pulled") is again
    other = type("Another", (PulledConfig,), {"__module__": __name__})
    with pytest.raises(UserError, match=r"the system 'pulled' of .*:Another is taken: .*:PulledConfig has it"):
        toposampler.register(other)
    own = type("Mine", (SYSTEMS[0],), {"__module__": __name__})
    with pytest.raises(UserError, match="is taken"):
        toposampler.register(own)


class Unfinished(SystemConfig):
    """It cannot build."""

    name: Literal["unfinished"] = "unfinished"


class Nameless(WGANGPConfig):
    """Its name is no default that a configuration could give."""

    name: str = ""  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("thing", "names", "message"),
    [
        (3, {}, "3 is neither a subclass of SystemConfig nor one of DataConfig"),
        (torch.nn.Linear, {}, "is neither a subclass of SystemConfig"),
        (Unfinished, {}, "Unfinished lacks build, which a system must have"),
        (Nameless, {}, "Nameless has no name that a configuration could give"),
        (3, {"network": "three"}, "3 is no function, and has no function `generator`"),
        (len, {"metric": "1 2"}, "cannot be registered as '1 2'"),
        (len, {"metric": "a", "network": "b"}, "a function is one of them"),
    ],
)
def test_what_cannot_be_registered_is_refused(thing: Any, names: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        toposampler.register(thing, **names)


def blocks(shape: tuple[int, ...]) -> torch.nn.Module:
    return torch.nn.Linear(shape[0], 4)


def test_a_network_is_found_by_its_name() -> None:
    toposampler.register(blocks, network="blocks")
    assert NETWORKS.find("blocks") is blocks
    with pytest.raises(UserError, match=r"the network 'block' is not known. Did you mean 'blocks'\?"):
        NETWORKS.find("block")


def test_another_process_is_told_what_is_registered() -> None:
    toposampler.register(PulledConfig)
    toposampler.register(blocks, network="blocks")
    told = pickle.dumps(Registered())
    for registry in KINDS.values():
        registry._registered = {}
    with pytest.raises(UserError, match="'pulled' is not known"):
        SYSTEM_CLASSES.find("pulled")
    pickle.loads(told)
    assert SYSTEM_CLASSES.find("pulled") is PulledConfig
    assert NETWORKS.find("blocks") is blocks


class TestMetrics:
    @staticmethod
    def scores(seed: int = 0) -> dict[str, float]:
        data = validate(RunConfig, {"name": "x", "data": {"name": "lines", "n": 200}, "system": {"name": "wgan_gp"}})
        dataset = data.data.load()
        return evaluate(dataset, dataset.x, torch.arange(200) % 4, None, seed)

    def test_a_metric_stands_beside_the_packages_and_repeats_from_the_seed(self) -> None:
        def drawn(real: Tensor, samples: Tensor, labels: Tensor | None, generators: Tensor | None, seed: int) -> float:
            assert real.shape == samples.shape == (200, 2)
            assert labels is not None
            assert generators is not None
            return float(torch.rand(())) + seed

        before = self.scores()
        toposampler.register(drawn, metric="drawn")
        after = self.scores()
        assert after == before | {"drawn": after["drawn"]}
        assert self.scores() == after
        assert self.scores(seed=1)["drawn"] > 1

    @pytest.mark.parametrize(
        ("value", "fault"), [(float("nan"), "no finite number"), ("three", "could not convert"), (None, "float()")]
    )
    def test_one_that_fails_is_named_once_and_left_out(
        self, value: Any, fault: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        toposampler.register(lambda real, samples: value, metric="bad")
        toposampler.register(lambda real, samples: len(samples), metric="good")
        with caplog.at_level(logging.WARNING):
            scores = [self.scores(), self.scores()]
        assert all("bad" not in found and found["good"] == 200 for found in scores)
        [record] = caplog.records
        assert record.getMessage().startswith("the metric bad (registered here) is left out")
        assert fault in record.getMessage()

    def test_one_cannot_take_the_name_of_another(self, caplog: pytest.LogCaptureFixture) -> None:
        before = self.scores()
        toposampler.register(lambda real, samples: 0.0, metric="score")
        assert self.scores() == before
        assert "a metric of the package has this name" in caplog.text

    def test_the_table_prints_a_metric_that_no_block_names(self) -> None:
        metrics = {"drawn": Estimate([0.25]), "score": Estimate([0.5]), "mode_mass_3": Estimate([0.125])}
        lines = list(table([Row("model", metrics, [])]))
        start = lines.index(f"\n{FURTHER}")
        block = [line.split() for line in lines[start + 1 : start + 4]]
        assert block == [["drawn"], ["better", "-"], ["model", "0.25"]]
        assert "mode_mass_3" not in "".join(lines)

    def test_a_metric_says_of_itself_which_values_are_better(self) -> None:
        for better, shown in (("more", "more"), (0.25, "0.25"), ("faster", "-"), (True, "-")):

            def spread(real: Tensor, samples: Tensor) -> float:
                """How wide samples are."""
                return float(samples.std())

            spread.better = better  # type: ignore[attr-defined]
            toposampler.register(spread, metric="spread")
            kind = kind_of("spread")
            assert kind is not None
            assert (kind.direction, kind.meaning, kind.block) == (shown, "How wide samples are.", FURTHER)


def test_a_page_of_the_package_is_found_by_itself() -> None:
    """Adding a system or a data set is one file: nothing lists them by hand."""
    for pages, folder in ((SYSTEM_CLASSES, "systems"), (SETS, "data")):
        found = {page.__module__.rpartition(".")[2] for page in pages.own()}
        modules = (Path(toposampler.__file__).parent / folder).glob("*.py")
        declaring = {path.stem for path in modules if 'name: Literal["' in path.read_text()}
        assert found == declaring
    assert METRICS.entries() == []
