"""A second device where there is none: tensors that say `cuda` and compute on the CPU.

Every operation checks what a GPU would refuse: tensors of two devices in one operation (a CPU index
into a `cuda` tensor and a CPU scalar are allowed, a `cuda` index into a CPU tensor is not), and
values read as numpy arrays without `.cpu()`. Kernels are the CPU's; so are the random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

CUDA = torch.device("cuda", 0)
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXED = ("aten.index", "aten._index_put")  # their indices may lie on the CPU


class OnCuda(Tensor):
    """A tensor of the second device, its values in `inner`, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnCuda:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),  # of which autograd asks nothing
            requires_grad=inner.requires_grad,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner.detach()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCuda({self.inner!r})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in MOVES:
            _check_devices(func, args, kwargs)
        to = kwargs.pop("device", None)
        stays = to is None or torch.device(to).type != "cpu"
        inner = tree_map_only(OnCuda, lambda one: one.inner, (args, kwargs))
        out = func(*inner[0], **inner[1])
        if not stays or (func is MOVES[1] and not isinstance(args[0], OnCuda)):
            return args[0] if func is MOVES[1] else out
        out = tree_map_only(Tensor, OnCuda, out)
        return return_and_correct_aliasing(func, args, kwargs, out)


def _check_devices(func: Any, args: tuple, kwargs: dict) -> None:
    name = str(func)
    indexed = name.startswith(INDEXED)
    if indexed and not isinstance(args[0], OnCuda):
        raise RuntimeError(f"{name}: indices on cuda, the tensor on the CPU")
    args = (args[0], *args[2:]) if indexed else args  # without the indices
    for one in tree_flatten((args, kwargs))[0]:
        if isinstance(one, Tensor) and not isinstance(one, OnCuda) and one.ndim:
            raise RuntimeError(f"{name}: tensors on cuda and on the CPU, {tuple(one.shape)}")


class _Factories(TorchFunctionMode):
    """Makes what is asked for on `cuda` there: torch itself would look for a GPU first."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        asked = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.device)]
        tensors = any(isinstance(one, Tensor) for one in args)
        if func is Tensor.to and isinstance(args[0], Tensor):
            return _moved(args[0], args[1:], kwargs)
        if func is Tensor.tolist and isinstance(args[0], OnCuda):
            return args[0].inner.tolist()
        # numbers and lists would become tensors on `meta`, which hold nothing
        if func is Tensor.__getitem__ or func is Tensor.__setitem__:
            args = (args[0], _index(args[1]), *args[2:])
        if func is Tensor.__setitem__ and not isinstance(args[2], Tensor):
            args = (*args[:2], torch.tensor(args[2], dtype=args[0].dtype))
        if func is torch.where:
            args = tuple(torch.tensor(x) if isinstance(x, int | float) else x for x in args)
        if not tensors and any(one.type == "cuda" for one in asked):
            kwargs["device"] = "cpu"
            return OnCuda(func(*args, **kwargs))
        return func(*args, **kwargs)


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _moved(tensor: Tensor, args: tuple, kwargs: dict) -> Any:
    """`tensor.to(...)`, the second device known."""
    like = next((one for one in args if isinstance(one, Tensor)), None)
    if like is not None:
        args = (like.device, like.dtype)
    device = next((one for one in args if isinstance(one, torch.device)), kwargs.get("device"))
    rest = tuple(one for one in args if not isinstance(one, torch.device))
    kwargs = {name: value for name, value in kwargs.items() if name != "device"}
    with torch._C.DisableTorchFunction():
        if device is not None and device.type == "cuda" and not isinstance(tensor, OnCuda):
            tensor = OnCuda(tensor)
        elif device is not None and device.type == "cpu":
            tensor = tensor.cpu()
        return tensor.to(*rest, **kwargs) if rest or kwargs else tensor


@contextmanager
def second_device() -> Iterator[Callable[[nn.Module], None]]:
    """Within it there is a second device; what it yields moves a model there, in place."""

    def move(model: nn.Module) -> None:
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(OnCuda(parameter.data)))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, OnCuda(buffer))

    with _Factories():
        yield move
