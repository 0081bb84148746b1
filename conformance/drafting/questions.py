"""The questions of a draft: what only a person can say, field by field."""

from __future__ import annotations

from collections.abc import Iterator

from ..spec import in_one_line
from .fields import truths
from .seen import Seen

MOST_PARAMETERS = 2_000_000
"""More is no miniature: a run would take minutes."""


def questions(seen: Seen) -> dict[str, str]:
    """What `todo` asks; a field of which all is known is not in it."""
    asked = {
        "fixture": size(seen),
        "shim": shim(seen),
        "sizes": sizes(seen),
        "layouts": " ".join(layouts(seen)),
        "mask_token": "" if "mask" in seen.sizes else "Which id is the mask? Until this says one, no token is masked.",
        "points": " ".join(points(seen)),
        "truths": "Told of the config and of names of classes: is each what the model does?" if truths(seen) else "",
        "capabilities": "Is there a sampler? Name it as `sampler`, or decline `denoise`: NotYet(...), Impossible(...).",
        "branches": "Is what a layer adds to its stream gated? Until this says so, every gate is taken for 1.",
        "variants": "Which other configs does the same code serve? What holds under this one only may be luck.",
        "oracle": "Who judges what no module returns, as scores and scales of norms? Else such hooks stay unknown.",
    }
    return {field: question for field, question in asked.items() if question}


def size(seen: Seen) -> str:
    """Whether the miniature is one."""
    count = sum(parameter.numel() for parameter in seen.model.parameters())
    name, largest = max(seen.model.named_parameters(), key=lambda pair: pair[1].numel())
    asked = f"It has {count} parameters, {name} alone {largest.numel()}: which field of its config.json can be smaller?"
    return asked if count > MOST_PARAMETERS else ""


def sizes(seen: Seen) -> str:
    """Whether all is known that nearly every model has, and that a miniature should have less of."""
    missing = [size for size in ("heads", "d_model") if size not in seen.sizes]
    options = " ".join(f"--size {size}=FIELD" for size in missing)
    asked = f"Which fields hold {' and '.join(missing)}? A draft with {options} makes them small, too."
    return asked if missing else ""


def shim(seen: Seen) -> str:
    """Whether the model runs."""
    if seen.probed.error and not seen.probed.calls:
        return f"No call of the model's own forward works ({in_one_line(seen.probed.error)}): what does it need?"
    asked = "The model does not run here without it: is the bridge to be booted around a model that has it (`built`)?"
    return asked if seen.shim.source else ""


def layouts(seen: Seen) -> Iterator[str]:
    """Who sees whom, and which arguments there are."""
    calls = seen.probed.calls
    if not calls:
        yield "Who may attend to whom? No call works, so `everyone` is a guess."
    elif calls[0].mask is not None:
        yield "The caller says who may attend to whom: which relations does the paper have?"
    elif calls[0].relation is None:
        yield "Who may attend to whom? What the model's code does fits nothing known here; `everyone` is a guess."
    else:
        yield f"Without a mask the model's code behaves like `{calls[0].relation}`: does the paper say so?"
    for name in seen.probed.unknown:
        yield f"The forward wants `{name}`: what is it?"
    for name, acts in seen.probed.levels.items():
        yield f"`{name}` is drawn from 0 to 1: which levels does the model know?"
        if not acts:
            yield f"Under this config `{name}` changes nothing: on which fields does that depend (`when=`)?"


def points(seen: Seen) -> Iterator[str]:
    """How far the adapter's mapping and the model's modules go together."""
    if seen.unread:
        yield f"The adapter's mapping cannot be read ({seen.unread}): write them by hand."
        return
    yield "Taken from the adapter's own mapping, which is what is judged: is each the module of that role?"
    if seen.pairs.absent:
        yield f"Left out, as the model has no such module: {', '.join(seen.pairs.absent)}."
    if seen.pairs.spare:
        yield f"No point is for {', '.join(seen.pairs.spare)}."
    for odd in seen.out_of_order:
        yield f"A forward passes {odd}."
