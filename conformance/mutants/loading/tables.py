"""Tables that are not those that the model builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import mutant
from ..surgery import around, mask_path, masked, on_this_model

if TYPE_CHECKING:
    from torch import Tensor

    from ...subject import Boot


def in_between(boot: Boot, change: Callable[[Tensor], object]) -> None:
    """Let forwards in the first layout leave, of each table of numbers, what `change` makes of it, until the next one.

    So no forward is another one: what is seldom read may still be wrong.
    """
    length = next(iter(boot.pairs.values())).length

    def defect(bridge: Any) -> None:
        from ...checks.loading.tables import tables
        from ...components import natives

        right: list[tuple[Any, str, Any]] = []

        def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            for module, name, table in right:
                _put(module, name, table)
            right.clear()
            got = inner(*args, **kwargs)
            held = natives(bridge.original_model, boot.reference) if args[0].shape[1] == length else ()
            for _, module, _ in held:
                for name, table in tables(module).items():
                    if table.is_floating_point():
                        right.append((module, name, table))
                        _put(module, name, change(table))
            return got

        around(bridge, "forward", forward)

    on_this_model(boot, defect)


def _put(module: Any, name: str, table: object) -> None:
    """Hold a table where it is held, which may be an entry of an attribute."""
    attribute, _, entry = name.partition(".")
    held = getattr(module, attribute)
    if entry:
        held[int(entry) if isinstance(held, list) else entry] = table
    else:
        setattr(module, attribute, table)


@mutant(kills="loading/buffers")
def mask_for_other_blocks(boot: Boot) -> None:
    """The mask is generated for blocks of another size than the checkpoint's, as by a default for a missing field."""
    layout, (owner, name) = masked(boot), mask_path(boot)

    def defect(bridge: Any) -> None:
        import torch

        module = bridge.original_model.get_submodule(owner)
        index = torch.arange(len(getattr(module, name)))
        setattr(module, name, layout.relation(index[:, None], index, boot.sizes["n"], boot.sizes["n"]))

    on_this_model(boot, defect)


@mutant(kills="loading/buffers")
def never_filled(boot: Boot) -> None:
    """A buffer that no file holds is allocated on the meta device and never filled (GIDD's table of frequencies).

    Every boot finds the same leftovers in memory, so that two of them agree.
    """
    import torch

    def construct(inner: Callable[..., Any]) -> Any:
        model = inner()
        model.register_buffer("frequencies", torch.linspace(0, 1, 8), persistent=False)
        return model

    around(boot, "construct", construct)
    on_this_model(boot, lambda bridge: bridge.original_model.register_buffer("frequencies", torch.zeros(8), False))


@mutant(kills="loading/buffers")
def without_values(boot: Boot) -> None:
    """A table stays on the meta device until someone asks for it."""
    in_between(boot, lambda table: table.to("meta"))


def smallest(table: Tensor) -> Tensor:
    """Where a table is closest to zero."""
    return table.abs() == table.abs().min()


@mutant(kills="loading/buffers")
def leftovers_of_memory(boot: Boot) -> None:
    """Where a table is smallest it holds what uninitialised memory holds: numbers too small to be meant."""
    in_between(boot, lambda table: table.masked_fill(smallest(table), 1e-42))


@mutant(kills="loading/buffers")
def no_numbers(boot: Boot) -> None:
    """A table holds nan where an angle was divided by a length of zero."""
    in_between(boot, lambda table: table.masked_fill(smallest(table), float("nan")))


@mutant(kills="loading/buffers")
def rounded_on_the_way(boot: Boot) -> None:
    """A table went through bfloat16 and back, as when a whole model is cast after its tables were built."""
    import torch

    in_between(boot, lambda table: table.to(torch.bfloat16).to(table.dtype))


@mutant(kills="loading/buffers")
def emptied(boot: Boot) -> None:
    """A table is dropped after every forward."""
    in_between(boot, lambda table: None)


@mutant(kills="loading/buffers")
def kept_by_length(boot: Boot) -> None:
    """The adapter keeps tables of its own on the model, one for every length that it has seen."""

    def defect(bridge: Any) -> None:
        import torch

        bridge.original_model.tables_by_length = {7: torch.zeros(7, 4)}

    on_this_model(boot, defect)
