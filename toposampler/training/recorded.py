"""Replays on a CPU: the operations of torch that a program has made, called again without the Python that led to them.

A population of small networks spends most of an iteration in Python: modules, `vmap`, autograd. What reaches the
kernels is a list of operations on tensors, forwards, backwards and Adam alike. It is recorded once, below autograd, and
written down as a function (`torch.fx`), which a replay calls: on the tensors that the program was recorded with, where
these outlive it, and with new ones for all that is made on the way. What is the same at every replay is made only once
(`folded.py`), products with 1 are left out, and narrow products are turned (`NARROW`), in the recorded run too. All
other operations are the program's: a replay has the bits of the recorded run, and this the program's up to rounding.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from toposampler.training.capture import Action, Capture, NotCapturableError, restored
from toposampler.training.folded import SOURCE, evaluate_once

READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""operations that have a value decide what Python does next"""

NARROW = 10
"""columns of a batched product up to which it is recorded turned, (b' a')': as it is MKL may take 3 to 10 times as long
(16 products of 512 x 128 and 128 x 1 on an AMD EPYC: 1.1 and .3 ms; of 128 x 512 and 512 x 1: 1.3 and .1 ms)"""


class Recorded(Capture):
    """Replays of the operations of a program, on a CPU."""

    is_silent = True

    def __call__(
        self, segments: Sequence[Action], state: Sequence[Tensor], outputs: Callable[[], Tensor]
    ) -> list[Action]:
        """See `Capture`."""
        tapes = [_Tape() for _ in segments]
        with restored(state):
            for tape, segment in zip(tapes, segments, strict=True):
                with tape:
                    segment()
            expected = [outputs().clone(), *(x.clone() for x in state)]
        with _Reads() as reads:
            outputs()
        replays = [tape.replay(reads.tensors) for tape in tapes]
        with restored(state):
            for replay in replays:
                replay()
            found = [outputs(), *state]
            for a, b in zip(found, expected, strict=True):
                if not torch.allclose(a, b, rtol=0, atol=0, equal_nan=True):
                    raise NotCapturableError("a replay gives other numbers than the program")
        return replays


class _Writes:
    """Writes down operations that are called, as a graph of `torch.fx`.

    Not yet a mode: torch has a mode's own `__torch_dispatch__` import its compiler at the first call, which takes two
    seconds, and what a mode inherits it leaves alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._graph = fx.Graph()
        self._nodes = WeakTensorKeyDictionary()
        self._given: list[Tensor] = []
        """the tensors that were there before: the inputs of the graph, the last one first"""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.bmm.default and _is_narrow(*args):
            with self:  # type: ignore[attr-defined]  # of a mode
                return torch.bmm(args[1].mT, args[0].mT).mT.contiguous()
        if READS & set(func.tags) and not (func is torch.ops.aten.index.Tensor and _by_numbers(args[1])):
            raise NotCapturableError(f"{func} has Python wait for a value")
        places = tree_map_only(Tensor, self._node, (tuple(args), dict(kwargs)))
        found = func(*args, **kwargs)
        if _is_times_one(func, found, args):
            self._nodes[found] = self._node(args[0])
            return found
        source = None if func._schema.is_mutable else _source(found, args)
        if source is not None and _is_same(found, source):
            self._nodes[found] = self._node(source)  # but for autograd it is what the operation was given
            return found
        node = self._graph.call_function(func, *places)
        if source is not None:
            node.meta[SOURCE] = self._node(source)
        if isinstance(found, Tensor):
            self._made(found, node)
        elif isinstance(found, (tuple, list)):
            for i, part in enumerate(found):
                if isinstance(part, Tensor):
                    self._made(part, self._graph.call_function(operator.getitem, (node, i)))
        return found

    def _node(self, x: Tensor) -> fx.Node:
        """What stands for x in the graph."""
        if x not in self._nodes:
            self._nodes[x] = self._input(x)
        node: fx.Node = self._nodes[x]
        return node

    def _input(self, x: Tensor) -> fx.Node:
        """A new input of the graph, which x is."""
        self._given.append(x)
        with self._graph.inserting_before(None):  # before all else
            return self._graph.placeholder(f"given_{len(self._given)}")

    def _made(self, x: Tensor, node: fx.Node) -> None:
        """x was made by `node`; what an operation in place gives back was there before."""
        if x not in self._nodes:
            self._nodes[x] = node

    def replay(self, made: Sequence[Tensor]) -> Action:
        """Calls the operations again; those of the tensors `made` that they have made are then as of that call."""
        for x in made:
            if x in self._nodes:
                self._graph.call_function(torch.ops.aten.copy_.default, (self._input(x), self._nodes[x]))
        self._graph.output(None)
        self._graph.eliminate_dead_code()
        given = [*reversed(self._given)]
        given += evaluate_once(self._graph, given)
        for node in self._graph.nodes:
            node.target = _bound(node.target)
        function = fx.GraphModule(nn.Module(), self._graph).forward

        @torch.no_grad()
        def call() -> None:
            function(*given)

        return call


class _Tape(_Writes, TorchDispatchMode):
    """Writes down the operations that are called within it."""


def _bound(target: Any) -> Any:
    """The function of torch, or the method of its tensors, that is the operation `target` with its arguments, where
    there is one: Python calls it in half to two thirds of the time that it takes for one of `torch.ops`."""
    if isinstance(target, OpOverload) and target.namespace == "aten":
        for place, kind in ((torch, BuiltinFunctionType), (Tensor, MethodDescriptorType)):
            if isinstance(found := getattr(place, target.overloadpacket.__name__, None), kind):
                return found
    return target


def _is_narrow(a: Tensor, b: Tensor) -> bool:
    """Whether the products of a (P, n, k) and b (P, k, m) have few columns, and many rows."""
    return b.shape[2] <= NARROW and a.shape[1] >= 3 * NARROW


def _is_times_one(func: Any, found: Any, args: Sequence[Any]) -> bool:
    """Whether this is x * 1, which `vmap` makes of every bias."""
    x, *others = args or (None,)
    is_product = func is torch.ops.aten.mul.Tensor and isinstance(x, Tensor) and found.dtype == x.dtype
    return is_product and not isinstance(others[0], Tensor) and others[0] == 1


def _source(found: Any, args: Sequence[Any]) -> Tensor | None:
    """The first tensor of `args` in whose memory the result `found` lies; None: in none of theirs."""
    if not isinstance(found, Tensor):
        return None
    place = found.untyped_storage().data_ptr()
    tensors = (x for x in args if isinstance(x, Tensor))
    return next((x for x in tensors if place and x.untyped_storage().data_ptr() == place), None)


def _is_same(x: Tensor, y: Tensor) -> bool:
    """Whether tensors that lie in the same memory are the same part of it, read in the same way."""
    like = [(z.dtype, z.shape, z.stride(), z.storage_offset(), z.is_conj(), z.is_neg()) for z in (x, y)]
    return like[0] == like[1]


def _by_numbers(indices: Sequence[Tensor | None]) -> bool:
    """Whether these are places, of which as many come out, and no masks."""
    return all(index is None or index.dtype not in (torch.bool, torch.uint8) for index in indices)


class _Keeps:
    """Keeps the tensors that operations are given; see `_Writes`."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tree_map_only(Tensor, self.tensors.append, args)
        return func(*args, **(kwargs or {}))


class _Reads(_Keeps, TorchDispatchMode):
    """Keeps the tensors that operations within it are given."""
