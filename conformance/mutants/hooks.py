"""hooks: names that lie, hooks that are dead, doubled, late, deaf, or that stay behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import mutant
from .surgery import advertise, around, around_firing, inner_hook, on_bridge

if TYPE_CHECKING:
    from ..subject import Boot


@mutant(kills="hooks/names")
def alias_is_a_twin(boot: Boot) -> None:
    """An alias is a second hook point under the same name, and never fires (TransformerLens PR #1098)."""
    alias = boot.spec.streams[0].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        from transformer_lens.hook_points import HookPoint

        twin = HookPoint()
        twin.name = bridge.hook_dict[alias].name
        advertise(bridge, lambda registry: {**registry, alias: twin})

    on_bridge(boot, defect)


@mutant(kills="hooks/names")
def alias_without_grammar(boot: Boot) -> None:
    """A hook is advertised under a name that no filter for `hook_` finds."""
    target = boot.spec.streams[0].replace("{layer}", "0")

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {**registry, "blocks.0.resid": registry[target]})

    on_bridge(boot, defect)


@mutant(kills="hooks/pairing")
def norms_change_places(boot: Boot) -> None:
    """After the hooks have their names, `ln1` and `ln2` of a block change places: their weights are read crosswise."""

    def defect(bridge: Any) -> None:
        parts = bridge.blocks[0]._modules
        parts["ln1"], parts["ln2"] = parts["ln2"], parts["ln1"]

    on_bridge(boot, defect)


@mutant(kills="hooks/fires")
def advertised_and_dead(boot: Boot) -> None:
    """A hook can be attached to and never fires (TransformerLens #1688; PR #1256 for 25 adapters)."""

    def defect(bridge: Any) -> None:
        from transformer_lens.hook_points import HookPoint

        dead, name = HookPoint(), "blocks.0.attn.hook_rot_q"
        dead.name = name
        advertise(bridge, lambda registry: {**registry, name: dead})

    on_bridge(boot, defect)


@mutant(kills="hooks/fires")
def fires_with_a_tuple(boot: Boot) -> None:
    """A hook is handed the module's tuple instead of its tensor, so that what a hook returns is lost in it."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        inner((tensor,))
        return tensor

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire))


@mutant(kills="hooks/fires")
def refuses_without_a_name(boot: Boot) -> None:
    """A hook that cannot be attached is refused with an error that does not say which one."""

    def defect(bridge: Any) -> None:
        name = inner_hook(bridge)
        _refuse(bridge, lambda asked: asked == name, "not supported by this architecture")

    on_bridge(boot, defect)


@mutant(kills="hooks/complete")
def dropped(boot: Boot) -> None:
    """The output hook of a component is gone from `hook_dict` and with it every notebook that uses it."""
    name = next(iter(boot.spec.points))

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {n: p for n, p in registry.items() if p.name != f"{name}.hook_out"})

    on_bridge(boot, defect)


@mutant(kills="hooks/complete")
def refused_at_a_point(boot: Boot) -> None:
    """A hook at a component that the spec names is refused, in clear words, to have one less to get right."""
    refused = f"{next(iter(boot.spec.points))}.hook_out"

    def defect(bridge: Any) -> None:
        _refuse(bridge, lambda asked: asked == refused, f"{refused} takes no hooks")

    on_bridge(boot, defect)


@mutant(kills="hooks/multiplicity")
def fires_twice(boot: Boot) -> None:
    """A hook fires twice on one tensor, so that an added vector is added twice (TransformerLens PR #1659, on MPT)."""
    on_bridge(boot, lambda b: around_firing(b, inner_hook(b), lambda fire, tensor: fire(fire(tensor))))


@mutant(kills="hooks/multiplicity")
def fires_for_the_first_part_only(boot: Boot) -> None:
    """A hook that should fire once per part of the stream fires for the first part and is silent on the rest."""
    on_bridge(boot, lambda bridge: _from_the_second_on(boot, bridge, lambda _, tensor: tensor))


@mutant(kills="hooks/order")
def names_of_two_moments(boot: Boot) -> None:
    """The end of one layer and the start of the next change names: one tensor, but hooks run in the wrong order."""
    one, other = (boot.spec.streams[1].replace("{layer}", "0"), boot.spec.streams[0].replace("{layer}", "1"))

    def defect(bridge: Any) -> None:
        registry = bridge._hook_registry
        first, second = bridge.hook_dict[one], bridge.hook_dict[other]
        first.name, second.name = second.name, first.name
        registry[first.name], registry[second.name] = first, second

    on_bridge(boot, defect)


@mutant(kills="hooks/identity")
def scaled_and_scaled_back(boot: Boot) -> None:
    """What a hook returns is scaled on the way in and out again, which costs its last bits.

    TransformerLens does so for models with a residual multiplier (#1648), and must spare a hook that changes nothing.
    """

    def defect(bridge: Any) -> None:
        point = bridge.hook_dict[inner_hook(bridge)]
        point.hook_conversion = SimpleNamespace(convert=lambda tensor: tensor, revert=lambda tensor: tensor / 3 * 3)

    on_bridge(boot, defect)


@mutant(kills="hooks/edits-reach")
def discards_edits(boot: Boot) -> None:
    """What a hook returns is thrown away (TransformerLens #1526: norms on the native path did so)."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        inner(tensor)
        return tensor

    on_bridge(boot, lambda bridge: around_firing(bridge, inner_hook(bridge), fire))


@mutant(kills="hooks/edits-reach")
def discards_edits_of_one_part(boot: Boot) -> None:
    """Of a hook that fires once per part of the stream, only what it returns for the first part is used."""

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        inner(tensor)
        return tensor

    on_bridge(boot, lambda bridge: _from_the_second_on(boot, bridge, fire))


@mutant(kills="hooks/edits-reach")
def edits_at_half_strength(boot: Boot) -> None:
    """An edit is rescaled on its way into the stream (TransformerLens #1648, residual multipliers)."""
    on_bridge(boot, lambda b: around_firing(b, inner_hook(b), lambda fire, tensor: (tensor + fire(tensor)) / 2))


@mutant(kills="hooks/residual-algebra")
def branch_alias_on_a_dead_hook(boot: Boot) -> None:
    """`hook_attn_out` stands for a container that is never called, so the sum has a term without a value.

    TransformerLens PR #1673: components mapped to classes that cannot express them.
    """

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda r: {**r, "blocks.0.hook_attn_out": r["blocks.0.attn.hook_out"]})

    on_bridge(boot, defect)


@mutant(kills="hooks/residual-algebra")
def stream_alias_behind_the_norm(boot: Boot) -> None:
    """`hook_resid_pre` stands for the normed stream: right name, right shape, wrong place (TransformerLens #1317)."""

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda r: {**r, "blocks.1.hook_resid_pre": r["blocks.1.ln1.hook_out"]})

    on_bridge(boot, defect)


@mutant(kills="hooks/standard-names")
def nameless_activations(boot: Boot) -> None:
    """The MLP's activations lose the name that every notebook uses (TransformerLens #1796: promised, not there)."""

    def defect(bridge: Any) -> None:
        advertise(bridge, lambda registry: {n: p for n, p in registry.items() if not n.endswith("mlp.hook_pre")})

    on_bridge(boot, defect)


@mutant(kills="hooks/removal")
def left_after_an_exception(boot: Boot) -> None:
    """`hooks()` takes its hooks down at the end of the block, which an exception never reaches."""

    contexts: list[Any] = []

    @contextmanager
    def hooks(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        contexts.append(inner(*args, **kwargs))
        yield contexts[-1].__enter__()
        contexts[-1].__exit__(None, None, None)

    on_bridge(boot, lambda bridge: around(bridge, "hooks", hooks))


@mutant(kills="hooks/removal")
def backward_hooks_stay(boot: Boot) -> None:
    """Only forward hooks are taken down (TransformerLens #1323)."""

    def remove(inner: Callable[..., Any], point: Any, direction: str, handle: Any) -> None:
        if direction == "fwd":
            inner(point, direction, handle)

    on_bridge(boot, lambda bridge: around(bridge, "_remove_temporary_hook", remove))


@mutant(kills="hooks/removal")
def tears_down_the_users_hooks(boot: Boot) -> None:
    """`run_with_cache` takes down every hook there is, the user's own included (TransformerLens #1636)."""

    def defect(bridge: Any) -> None:
        def run_with_cache(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            got = inner(*args, **kwargs)
            bridge.reset_hooks()
            return got

        around(bridge, "run_with_cache", run_with_cache)

    on_bridge(boot, defect)


def _refuse(bridge: Any, which: Callable[[str], bool], message: str) -> None:
    """Refuse hooks at some points, as TransformerLens does for points that are switched off."""

    def check(inner: Callable[..., Any], point: Any, *args: Any, **kwargs: Any) -> None:
        if which(point.name):
            raise ValueError(message)
        inner(point, *args, **kwargs)

    around(bridge, "check_hooks_to_add", check)


def _from_the_second_on(boot: Boot, bridge: Any, defect: Callable[..., Any]) -> None:
    """Let `defect(fire, tensor)` answer for a hook that fires once per part of the stream, but for the first part."""
    pattern = next(pattern for layout in boot.spec.layouts for pattern in layout.fires)
    fired: list[bool] = []

    def forward(inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        fired.clear()
        return inner(*args, **kwargs)

    def fire(inner: Callable[[Any], Any], tensor: Any) -> Any:
        fired.append(True)
        return inner(tensor) if len(fired) == 1 else defect(inner, tensor)

    around(bridge, "forward", forward)
    around_firing(bridge, pattern.replace("{layer}", "0") + ".hook_out", fire)
