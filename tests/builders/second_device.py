"""More devices where there are none: tensors that say `cuda:0`, `cuda:1` and compute on the CPU.

Every operation checks what GPUs would refuse: tensors of two devices in one operation (a CPU index
into a `cuda` tensor and a CPU scalar are allowed, a `cuda` index into a CPU tensor is not), and
values read as numpy arrays without `.cpu()`. Kernels are the CPU's; so are the random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import dispatch_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

CUDA = torch.device("cuda", 0)
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXED = ("aten.index", "aten._index_put")  # their indices may lie on the CPU


class OnCuda(Tensor):
    """A tensor of the device `cuda:number`, its values in `inner`, on the CPU."""

    inner: Tensor
    number: int

    @staticmethod
    def __new__(cls, inner: Tensor, number: int = 0) -> OnCuda:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),  # of which autograd asks nothing
            requires_grad=inner.requires_grad,
        )

    def __init__(self, inner: Tensor, number: int = 0) -> None:
        self.inner, self.number = inner.detach(), number

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.number)

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
        number = next(one.number for one in tree_flatten((args, kwargs))[0] if _there(one))
        out = tree_map_only(Tensor, lambda one: OnCuda(one, number), out)
        return return_and_correct_aliasing(func, args, kwargs, out)


def _check_devices(func: Any, args: tuple, kwargs: dict) -> None:
    name = str(func)
    numbers = {one.number for one in tree_flatten((args, kwargs))[0] if _there(one)}
    if len(numbers) > 1:
        raise RuntimeError(f"{name}: tensors on several GPUs, {numbers}")
    indexed = name.startswith(INDEXED)
    if indexed and not isinstance(args[0], OnCuda):
        raise RuntimeError(f"{name}: indices on cuda, the tensor on the CPU")
    args = (args[0], *args[2:]) if indexed else args  # without the indices
    for one in tree_flatten((args, kwargs))[0]:
        if isinstance(one, Tensor) and not isinstance(one, OnCuda) and one.ndim:
            raise RuntimeError(f"{name}: tensors on cuda and on the CPU, {tuple(one.shape)}")


def _there(one: Any) -> bool:
    return isinstance(one, OnCuda)


class _Move(torch.autograd.Function):
    """From one device to another, and its gradient back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, device: torch.device) -> Tensor:
        ctx.before = tensor.device
        return _on(tensor, device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _on(gradients[0], ctx.before), None


def _on(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a tensor on a device."""
    inner = (tensor.inner if isinstance(tensor, OnCuda) else tensor).detach().clone()
    return inner if device.type == "cpu" else OnCuda(inner, device.index or 0)


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
        gpus = [one for one in asked if one.type == "cuda"]
        if gpus and not tensors:
            kwargs["device"] = "cpu"
            return OnCuda(func(*args, **kwargs), gpus[0].index or 0)
        return func(*args, **kwargs)


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _moved(tensor: Tensor, args: tuple, kwargs: dict) -> Any:
    """`tensor.to(...)`, the other devices known."""
    like = next((one for one in args if isinstance(one, Tensor)), None)
    if like is not None:
        args = (like.device, like.dtype)
    args = tuple(torch.device(one) if isinstance(one, str) else one for one in args)
    device = next((one for one in args if isinstance(one, torch.device)), kwargs.get("device"))
    rest = tuple(one for one in args if not isinstance(one, torch.device))
    kwargs = {name: value for name, value in kwargs.items() if name != "device"}
    if device is not None and device != tensor.device:
        tensor = _Move.apply(tensor, device)  # type: ignore[assignment]
    with torch._C.DisableTorchFunction():
        return tensor.to(*rest, **kwargs) if rest or kwargs else tensor


def _move(module: nn.Module, device: torch.device) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        setattr(module, name, nn.Parameter(_on(parameter.data, device)))
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, _on(buffer, device))


@contextmanager
def second_device() -> Iterator[Callable[[nn.Module], None]]:
    """Within it there is a second device; what it yields moves a model there, in place."""

    def move(model: nn.Module) -> None:
        for module in model.modules():
            _move(module, CUDA)

    with _Factories():
        yield move


@contextmanager
def several_devices() -> Iterator[Callable[[Any, dict[str, Any]], None]]:
    """Within it there are several; what it yields moves the parts of a model that a `device_map`
    names to their devices, and has accelerate move what they are given, as `from_pretrained` does.
    """

    def dispatch(model: Any, device_map: dict[str, Any]) -> None:
        for part, device in device_map.items():
            for module in model.get_submodule(part).modules():
                _move(module, torch.device(device))
        dispatch_model(model, device_map)

    with _Factories():
        yield dispatch
