"""A simulated CUDA device: tensors that report this device and are computed on the CPU.

What a real one would refuse is refused here too: operands on different devices, random numbers from a generator of
another one. What would make the host wait for it (reading a value, a mask as an index, sending numbers there) is
counted, with the line that does it. Kernels, memory and speed are beyond it.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
WAITS = {"item", "tolist", "nonzero", "equal", "numpy", "unique", "masked_select", "cpu"}
WAITS |= {"__bool__", "__int__", "__float__", "__index__", "__array__"}
INDEXING = ("__getitem__", "__setitem__")


class OnCuda(Tensor):
    """A tensor of the simulated device."""


def _there(value: Any) -> Any:
    return value.as_subclass(OnCuda) if isinstance(value, Tensor) and not isinstance(value, OnCuda) else value


def _here(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, OnCuda) else value


class PretendDevice(TorchFunctionMode):
    """While it is entered, `cuda` exists. `waits` counts the lines of flamingo_eval that waited for it to compute.

    `sent` counts those that sent it numbers from the host, which waits as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, options = func.__name__, dict(kwargs or {})
        leaves = tree_leaves((args, options))
        tensors = [t for t in leaves if isinstance(t, Tensor)]
        on_cuda = any(isinstance(t, OnCuda) for t in tensors)
        if func == Tensor.device.__get__:
            return CUDA if on_cuda else func(*args)
        if name == "_has_compatible_shallow_copy_type":  # module.to asks: a parameter there is a new one
            return on_cuda == all(isinstance(t, OnCuda) for t in tensors)
        if func == Tensor.to:
            return self._to(*args, **options)
        target = options.pop("device", None)
        there = on_cuda if target is None else torch.device(target).type == "cuda"
        if on_cuda:
            self._refuse(name, args, tensors)
            self._count(name, args)
        if there and any(isinstance(g, torch.Generator) and g.device.type == "cpu" for g in leaves):
            raise RuntimeError(f"{name}: a generator of the CPU draws for a tensor on CUDA")
        if name == "tensor" and there:
            self.sent[_line(name)] += 1
        result = func(*args, **options)
        return _here(result) if name == "cpu" else tree_map(_there, result) if there else result

    def _to(self, tensor: Tensor, *how: Any, **given: Any) -> Tensor:
        arguments = [w for w in (*how, *given.values()) if isinstance(w, (torch.device, str, Tensor))]
        from_, to = (type_of(t) for t in (tensor, arguments[0] if arguments else tensor))
        if from_ == "cuda" and to == "cpu":
            self._wait("to")
        if from_ == "cpu" and to == "cuda":
            self.sent[_line("to")] += 1
        rest = [h for h in how if isinstance(h, torch.dtype)]
        dtype = next((d for d in (*rest, given.get("dtype")) if d is not None), tensor.dtype)
        moved = _here(tensor).to(dtype)
        return _there(moved) if to == "cuda" else moved  # type: ignore[no-any-return]

    @staticmethod
    def _refuse(name: str, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        if name == "copy_":  # copies in both directions
            return
        if name in INDEXING:  # tensors on the CPU may be indices, not values
            tensors = [t for t in (args[0], *args[2:]) if isinstance(t, Tensor)]
        if any(not isinstance(t, OnCuda) and t.dim() > 0 for t in tensors):  # scalars work with any device
            raise RuntimeError(f"{name}: operands on CUDA and on the CPU")

    def _count(self, name: str, args: tuple[Any, ...]) -> None:
        masks = name in INDEXING and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in tree_leaves(args[1]))
        if masks or name in WAITS:
            self._wait(name)

    def _wait(self, name: str) -> None:
        self.waits[_line(name)] += 1


def _line(name: str) -> str:
    ours = [f for f in traceback.extract_stack() if "/flamingo_eval/" in f.filename]
    place = ours[-1].filename.rpartition("/flamingo_eval/")[2] if ours else "a test"
    return f"{place}: {name}"


def type_of(place: Tensor | torch.device | str) -> str:
    """`cpu` or `cuda`."""
    if isinstance(place, Tensor):
        return "cuda" if isinstance(place, OnCuda) else "cpu"
    return torch.device(place).type


def send(module: nn.Module) -> None:
    """Move a module's weights there, like `module.to("cuda")`."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                on_cuda = _there(parameter.detach())
                part._parameters[name] = nn.Parameter(on_cuda, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = _there(buffer)


def pretended_capture(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Like a graph: nothing is computed during capture; a replay computes into the same memory."""
    result = work()

    def play() -> None:
        result.copy_(work())

    result.zero_()
    return play, result
