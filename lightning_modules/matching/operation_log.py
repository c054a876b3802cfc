"""Which operations torch runs, by name and shape of the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Result = TypeVar("Result")
Operation = tuple[str, tuple[tuple[int, ...], ...]]


def logged_operations(run: Callable[[], Result]) -> tuple[Result, list[Operation]]:
    """Run something and list the tensor operations that it runs, in order."""
    log = _Log()
    with log:
        result = run()
    return result, log.operations


class _Log(TorchDispatchMode):  # type: ignore[no-untyped-call]
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
