"""What a model holds in memory, by name, and what lies in the same place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def parameters_and_buffers(model: nn.Module) -> dict[str, Tensor]:
    """By name, every name of a tensor that has several; buffers that no checkpoint holds included."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def everything(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers, and tensors kept as plain attributes, such as masks and rotary tables."""
    plain = {
        f"{path}.{name}".lstrip("."): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    }
    return {**plain, **parameters_and_buffers(model)}


def address(tensor: Tensor) -> int:
    """Where the storage of a tensor begins; 0 where it has none."""
    return int(tensor.untyped_storage().data_ptr()) if tensor.numel() and not tensor.is_meta else 0


def shared(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Names of tensors that lie in the same memory, ours first."""
    places = {address(tensor): name for name, tensor in theirs.items() if address(tensor)}
    return [(name, places[address(tensor)]) for name, tensor in ours.items() if address(tensor) in places]


def unequal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that only one side has, or that differ in a bit."""
    names = sorted(ours.keys() | theirs.keys())
    return [name for name in names if name not in ours or name not in theirs or not same(ours[name], theirs[name])]


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, in shape and dtype; one without values equals none."""
    if one.is_meta or other.is_meta:
        return False
    return one.shape == other.shape and one.dtype == other.dtype and one.equal(other)


def digest(tensor: Tensor) -> str:
    """Shape, dtype and every bit of a tensor in a few characters; empty for one without values."""
    if tensor.is_meta:
        return ""
    held = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
    held.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return held.hexdigest()[:16]
