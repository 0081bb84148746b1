"""Names: what a bridge advertises, and what stands behind it. PYTEST_DONT_REWRITE"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...finding import Finding
from ...requirement import MUST, SHOULD, requirement

if TYPE_CHECKING:
    from ...subject import Boot


STANDARD = (
    *(f"hook_{name}" for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")),
    *(f"attn.hook_{name}" for name in ("q", "k", "v", "attn_scores", "pattern", "z")),
    *(f"{norm}.hook_{name}" for norm in ("ln1", "ln2") for name in ("scale", "normalized")),
    *(f"mlp.hook_{name}" for name in ("pre", "post")),
)
"""Names in a layer that analysis code for autoregressive models relies on."""

GRAMMAR = re.compile(r"([a-z][a-z0-9_]*\.|\d+\.)*hook_[a-z][a-z0-9_]*")


@requirement("hooks/names", level=MUST)
def names(boot: Boot) -> Iterator[Finding]:
    """Every name in `hook_dict` MUST be a dotted path that ends in `hook_...`, and every alias MUST be its target.

    An alias that is a second hook point fires apart from the first, or never.
    """
    registry = boot.bridge.hook_dict
    for name, point in registry.items():
        if not GRAMMAR.fullmatch(name):
            yield Finding("bad-name", name, got=name, want="component.path.hook_name")
        if registry.get(point.name) is not point:
            yield Finding("not-one-object", name, got=f"a hook point named {point.name}", want="the one it stands for")


@requirement("hooks/aliases", level=MUST)
def aliases(boot: Boot) -> Iterator[Finding]:
    """Every alias that the bridge or a component declares MUST stand in `hook_dict` for the first of its targets that
    is a hook, and booting MUST NOT warn of any.

    TransformerLens drops an alias that leads nowhere, at best with a warning (25 adapters once had no `hook_q`), and
    kept a map that was out of date when a component declared another target for its layer.
    """
    import warnings

    from ...pair import blamed_on_subject

    registry = boot.bridge.hook_dict
    for alias, targets in _declared(boot.bridge):
        found = [target for target in targets if target in registry]
        if not found:
            yield Finding("unresolved", alias, got=f"no {' and no '.join(targets)}", want="a hook that it stands for")
        elif alias not in registry:
            yield Finding("missing", alias, got="no such name", want=f"another name of {found[0]}")
        elif (name := registry[alias].name) != (wanted := registry[found[0]].name):
            yield Finding("wrong-target", alias, got=str(name), want=str(wanted))
    with warnings.catch_warnings(record=True) as told, blamed_on_subject():
        warnings.simplefilter("always")
        _ = boot.boot_again().hook_dict
    for text in dict.fromkeys(str(warning.message) for warning in told):
        if "alias" in text.lower():
            yield Finding("warned", "boot", got=text, want="no warning about aliases")


def _declared(bridge: Any) -> Iterator[tuple[str, list[str]]]:
    """Full names of all aliases, each with the full names that it may stand for, the most wanted first."""
    for path, component in bridge.named_modules(remove_duplicate=False):
        # Wrappers stand in the remote model too; there their names are the remote model's.
        if "_original_component" in path.split("."):
            continue
        for alias, target in (getattr(component, "hook_aliases", None) or {}).items():
            targets = [target] if isinstance(target, str) else list(target)
            prefix = f"{path}." if path else ""
            yield f"{prefix}{alias}", [f"{prefix}{target}" for target in targets]


@requirement("hooks/pairing", level=MUST)
def pairing(boot: Boot) -> Iterator[Finding]:
    """Every component MUST wrap the remote module that the spec pairs it with.

    An adapter whose `ln1` wraps the second norm agrees with itself in every other respect.
    """
    from ... import components
    from ...taps import paired

    model = boot.bridge.original_model
    if not boot.spec.points:
        yield Finding("undeclared", "points", got="no points in the spec", want="components with the modules they wrap")
    for name, path in paired(boot.spec.points, boot.layers, boot.reference):
        wrapped = getattr(components.at(boot.bridge, name), "original_component", None)
        wanted = components.unwrapped(components.at(model, path))
        if wrapped is None:
            yield Finding("missing", name, got="no component", want=path)
        elif components.unwrapped(wrapped) is not wanted:
            yield Finding("wrong-module", name, got=components.path_of(model, wrapped), want=path)


@requirement("hooks/complete", level=MUST, needs=("hooks/pairing",))
def complete(boot: Boot) -> Iterator[Finding]:
    """Every component that the spec names MUST have its `hook_in` and `hook_out` in `hook_dict`, and take hooks there.

    A hook that was renamed or dropped breaks every notebook that uses it; refusing it, however clearly, is no way out.
    """
    from ...taps import paired

    for name, _ in paired(boot.spec.points, boot.layers, boot.reference):
        for hook in (f"{name}.hook_in", f"{name}.hook_out"):
            if hook not in boot.bridge.hook_dict:
                yield Finding("missing", hook, got="no such hook", want="a hook at a point of the spec")
            elif hook in boot.refused:
                yield Finding("refused", hook, got=str(boot.refused[hook]), want="a hook at a point of the spec")


@requirement("hooks/standard-names", level=SHOULD, needs=("hooks/pairing",))
def standard_names(boot: Boot) -> Iterator[Finding]:
    """Every layer SHOULD have TransformerLens's names for residual stream, attention heads, pattern, MLP and norms.

    The same analysis runs on an autoregressive and on a diffusion model only where both have these names.
    """
    registry = boot.bridge.hook_dict
    for name in (f"blocks.{layer}.{hook}" for layer in range(boot.layers) for hook in STANDARD):
        if name not in registry:
            yield Finding("missing", name, got="no such hook", want="the name that autoregressive bridges have")
