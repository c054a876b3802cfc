"""Trace a network into a graph of operations with known shapes, without computing anything.

torch.fx runs the network's Python code on proxies. This tracer lets every proxy know the shape of
the tensor it stands for (a tensor on the meta device, which holds no data), so that code which
looks at shapes can be traced as well. Code that looks at values cannot. Code that asks whether a
value is a tensor gets a wrong answer from a proxy; the operations that tracing ran are therefore
compared with those that the network runs by itself.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.utils._python_dispatch import TorchDispatchMode

from fedi2i.errors import ConfigError

Result = TypeVar("Result")
# An operation's name and the shapes of its results.
Operation = tuple[str, tuple[tuple[int, ...], ...]]

# They keep an image's shape, but refuse images with a single entry per channel.
BATCH_OR_INSTANCE_NORMS: frozenset[type[nn.Module]] = frozenset(
    {
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    }
)
_SHAPE_ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device", "is_cuda", "requires_grad"})


class UntraceableNetworkError(ConfigError):
    """A network whose operations cannot be listed, so that its channel groups stay unknown."""


def traced_graph(network: nn.Module, example_inputs: tuple[Any, ...]) -> fx.Graph:
    """The operations of a network in its present mode, each with its value's shape.

    Every node's ``meta["value"]`` is the node's value with tensors on the meta device.

    Args:
        network: on the meta device; modules of torch.nn become single nodes.
        example_inputs: arguments of ``forward``; tensors on the meta device.

    Raises:
        UntraceableNetworkError: the code looks at values, does something else when it is traced,
            or refuses these inputs.
    """
    name = type(network).__name__
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        plain = _without_norms(network)
        try:
            _, expected = _logged_operations(lambda: plain(*example_inputs))
        except Exception as error:
            raise UntraceableNetworkError(
                f"{name}: its forward method cannot run on the shapes of the example inputs alone "
                f"({first_sentence(error)})"
            ) from error
        try:
            graph, done = _logged_operations(
                lambda: _ShapeTracer().trace_with(network, example_inputs)
            )
        except Exception as error:
            raise UntraceableNetworkError(
                f"{name}: torch.fx cannot trace its forward method ({first_sentence(error)})"
            ) from error
    if done != expected:
        raise UntraceableNetworkError(
            f"{name}: torch.fx does not follow its forward method, which asks whether values are "
            f"tensors or does something else that differs when traced"
        )
    return graph


def without_data(network: nn.Module) -> nn.Module:
    """A copy of a network on the meta device; the network itself is only read.

    Raises:
        UntraceableNetworkError: the network cannot be copied.
    """
    # Tensors are put into the memo beforehand: deepcopy then takes ours and allocates no data.
    memo: dict[int, Any] = {}
    for module in network.modules():
        tensors = (value for value in vars(module).values() if isinstance(value, Tensor))
        for tensor in (*module.parameters(False), *module.buffers(False), *tensors):
            memo.setdefault(id(tensor), _meta(tensor))
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:
        raise UntraceableNetworkError(
            f"{type(network).__name__}: cannot be copied for tracing ({first_sentence(error)}); "
            "use FedAvg for this network"
        ) from error


def known_value(node: fx.Node) -> Any:
    """The node's value with tensors that know their shape and hold no data."""
    return node.meta["value"]


def holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a collection with tensors in it."""
    if isinstance(value, tuple | list):
        return any(holds_tensor(item) for item in value)
    if isinstance(value, dict):
        return any(holds_tensor(item) for item in value.values())
    return isinstance(value, Tensor)


def _meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def first_sentence(error: Exception) -> str:
    """The first sentence of an error, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")


def _without_norms(network: nn.Module) -> nn.Module:
    """A copy in which norms pass images on: they keep the shape and refuse small images."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if type_before_parametrizations(module) in BATCH_OR_INSTANCE_NORMS:
            module.forward = _same
    return plain


def _same(image: Tensor) -> Tensor:
    return image


def _logged_operations(run: Callable[[], Result]) -> tuple[Result, list[Operation]]:
    """Run something and list the tensor operations that it runs, in order."""
    log = _OperationLog()
    with log:
        result = run()
    return result, log.operations


class _OperationLog(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else [result]
        shapes = tuple(tuple(o.shape) for o in outputs if isinstance(o, Tensor))
        # A proxy turns x += y into x + y.
        self.operations.append((str(func).replace("_.", "."), shapes))
        return result


class _ShapedProxy(fx.Proxy):
    """A proxy that answers questions about its shape, type and device with plain values."""

    def __getattr__(self, name: str) -> Any:
        value = self.node.meta.get("value")
        if name in _SHAPE_ATTRIBUTES and isinstance(value, Tensor):
            return getattr(value, name)
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self.node.meta["value"])


class _ShapeTracer(fx.Tracer):
    """torch.fx's tracer, computing every node's shape as the node is made."""

    def trace_with(self, network: nn.Module, example_inputs: tuple[Any, ...]) -> fx.Graph:
        signature = inspect.signature(type(network).forward)
        bound = signature.bind(network, *example_inputs)
        bound.apply_defaults()
        self._computing = False
        self._inputs = list(bound.arguments.values())[1:]
        # Arguments that hold no tensor are part of the code that is traced.
        constants = {k: v for k, v in bound.arguments.items() if not holds_tensor(v)}
        return self.trace(network, constants or None)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _ShapedProxy(node, self)

    def create_proxy(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        proxy = super().create_proxy(kind, target, *args, **kwargs)
        value = self._value(proxy.node)
        proxy.node.meta["value"] = value
        # A size or a flag is known: code may compute with it, loop over it and branch on it.
        is_result = kind in ("call_function", "call_method")
        return proxy if holds_tensor(value) or not is_result else value

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        # Parameters, buffers and constants that code hands to an operation have nodes but no proxy.
        if kind == "get_attr":
            node.meta["value"] = self._computed(lambda: _attribute(self.root, str(target)))
        return node

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = obj.node.meta["value"]
        if isinstance(value, tuple | list):
            return iter([operator.getitem(obj, index) for index in range(len(value))])
        return super().iter(obj)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._computing:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._inputs.pop(0)
        args = fx.map_arg(node.args, lambda n: n.meta["value"])
        kwargs = fx.map_arg(node.kwargs, lambda n: n.meta["value"])
        return self._computed(lambda: _evaluated(self.root, node, args, kwargs))

    def _computed(self, compute: Callable[[], Any]) -> Any:
        """Run something with values in place of proxies."""
        before, self._computing = self._computing, True
        try:
            return compute()
        finally:
            self._computing = before


def _evaluated(root: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    target: Any = node.target
    if node.op == "call_function":
        return target(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], target)(*args[1:], **kwargs)
    if node.op == "get_attr":
        return _attribute(root, target)
    if node.op != "call_module":
        return None
    module = root.get_submodule(target)
    # As in _without_norms.
    if type_before_parametrizations(module) in BATCH_OR_INSTANCE_NORMS:
        return args[0]
    return module(*args, **kwargs)


def _attribute(root: nn.Module, path: str) -> Any:
    value: Any = root
    for name in path.split("."):
        value = getattr(value, name)
    return value
