"""All that is used of Ray without being part of its public interface, with the reason; nothing of it stands elsewhere.

| of Ray | for | why no public means |
|---|---|---|
| `ray._private.state.available_resources_per_node` | what each node has free | `ray.available_resources` has the sums |
| `ray._private.worker.print_to_stdstream` | messages on dead nodes, shortened | `log_to_driver=False` leaves them on |
| `ray.init(_memory=)` | memory that workers may reserve | refused among `resources` |
| `DataParallelTrainer._register_sigint_handler` | Ctrl-C as the driver handles it | `fit` takes it; no option |

`tests/test_private_names.py` looks for more of them, and that the installed Ray has these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray._private import worker
from ray._private.state import available_resources_per_node
from ray.train.torch import TorchTrainer


def free_by_node() -> Mapping[str, Mapping[str, float]]:
    """What nobody uses now on each node of the connected cluster, by the node's id and Ray's names of the kinds."""
    found: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return found


def start(address: str, show: Callable[..., None], memory: float | None, options: Mapping[str, Any]) -> None:
    """`ray.init`, whose own messages to the driver go to `show`; `memory` (bytes) is for workers to reserve."""
    worker.print_to_stdstream = show
    ray.init(address, **options, **({} if memory is None else {"_memory": memory}))


class UninterruptedTrainer(TorchTrainer):
    """Leaves Ctrl-C alone: Ray's own handler swallows it, and the run would end as if it were complete."""

    def _register_sigint_handler(self, controller: object) -> None:
        pass
