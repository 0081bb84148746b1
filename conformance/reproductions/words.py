"""Words: what a template may say of an adapter and of the entries it shows, computed when it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Template
from typing import Any

from .. import checkpoint
from ..layout import Attend, Layout
from ..ledger import Entry
from ..sizes import Size
from ..spec import AdapterSpec, places
from ..truths import told
from .loading import OF_ANOTHER_LENGTH, WRONG
from .mask import MASKS


@dataclass
class Words:
    """The words of a template, by name, for entries of one requirement, finding and reason."""

    spec: AdapterSpec
    entries: tuple[Entry, ...]

    def fill(self, text: str) -> str:
        """The template with its words."""
        template = Template(text)
        return template.substitute({name: getattr(self, name) for name in template.get_identifiers()})

    # What boots, and what it is called with.

    @property
    def adapter(self) -> str:
        """Its name."""
        return self.spec.name

    @cached_property
    def _layout(self) -> Layout:
        named = self.entries[0].layouts or self.layouts
        return next(layout for layout in self.spec.layouts if layout.name in named)

    @property
    def layout(self) -> str:
        """The first layout in which it is found."""
        return self._layout.name

    @property
    def boot(self) -> str:
        """Two lines: a bridge."""
        return f'from conformance import boot\nbridge = boot(adapter="{self.adapter}")'

    @property
    def setup(self) -> str:
        """Three lines: a bridge, tokens and what else it is called with."""
        return (
            "from conformance import boot, example\n"
            f'bridge, given = boot(adapter="{self.adapter}"), example("{self.adapter}", "{self.layout}")\n'
            'tokens = given.pop("input_ids")'
        )

    @property
    def equations(self) -> str:
        """Four lines: a bridge, what it is called with, room for what is right, and the plain equations."""
        module, _, function = (self.spec.oracle or "").partition(":")
        return (
            "from safetensors.torch import load_file\n"
            "from conformance import boot, example\n"
            f"from {module} import {function} as equations\n"
            f'bridge, given, right = boot(adapter="{self.adapter}"), example("{self.adapter}", "{self.layout}"), {{}}'
        )

    @property
    def told(self) -> str:
        """Two lines behind a `try`: what is raised there, by its last line; those before may speak of one machine."""
        return 'except Exception as error:\n    print(f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}")'

    # Where it is found.

    @cached_property
    def place(self) -> str:
        """The first place of the first entry."""
        return next(iter(places(self.entries[0].at, 1)))

    @property
    def hooks(self) -> list[str]:
        """The last parts of all places."""
        return [entry.at.rpartition(".")[2] for entry in self.entries]

    @property
    def owner(self) -> str:
        """The place without its last part: a component."""
        return self.place.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of the place: a field, a hook."""
        return self.place.rpartition(".")[2]

    @property
    def part(self) -> str:
        """The part of the layer in which the place is."""
        return ".".join(self.place.split(".")[:3])

    @property
    def subject(self) -> str:
        """What stands before the colon of a place: an argument."""
        return self.place.partition(": ")[0]

    @property
    def kind(self) -> str:
        """What stands behind the colon of a place."""
        return self.place.partition(": ")[2]

    @property
    def layer(self) -> int:
        """The number of the layer in which the place is."""
        return int(self.place.split(".")[1])

    @property
    def next(self) -> int:
        """The number of the layer after it."""
        return self.layer + 1

    @property
    def last(self) -> int:
        """The number of the last layer."""
        return self.sizes["layers"] - 1

    # What the spec says of the model.

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The config of the bundled miniature."""
        return checkpoint.read_config(checkpoint.fixture_folder(str(self.spec.fixture)), self.spec)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The spec's sizes under it."""
        return self.spec.resolve(self.config)

    @property
    def n(self) -> int:
        """Tokens of the longest text."""
        return self.sizes["n"]

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        return self.sizes["d_vocab"]

    @property
    def longest(self) -> int:
        """Tokens of the longest stream that the layout takes."""
        return self.sizes["n"] if self._layout.ragged else self._layout.length(self.sizes)

    @property
    def layouts(self) -> list[str]:
        """All layouts by name."""
        return [layout.name for layout in self.spec.layouts]

    @property
    def length(self) -> str:
        """The sampler's option for the length of the text."""
        return self.spec.sampler.length if self.spec.sampler else "length"

    @property
    def options(self) -> str:
        """The sampler's options, as arguments."""
        options = self.spec.sampler.options if self.spec.sampler else {}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())

    @property
    def truth(self) -> str:
        """The true value of a field of `bridge.cfg`."""
        value = told(self.spec.truths[self.name], self.sizes, self.config)
        return " or ".join(sorted(map(str, value))) if isinstance(value, frozenset) else str(value)

    @property
    def fields(self) -> dict[str, object]:
        """The config fields of a variant, which is named as a place."""
        fields = self.spec.variants[self.place].fields
        return {name: value.of(self.sizes) if isinstance(value, Size) else value for name, value in fields.items()}

    @cached_property
    def _branch(self) -> tuple[str, str]:
        streams = {
            "hook_attn_out": ("hook_resid_pre", "hook_resid_mid"),
            "hook_mlp_out": ("hook_resid_mid", "hook_resid_post"),
        }
        before, after = streams[self.name]
        return f"{self.owner}.{before}", f"{self.owner}.{after}"

    @property
    def before(self) -> str:
        """The stream before a branch."""
        return self._branch[0]

    @property
    def after(self) -> str:
        """The stream after a branch."""
        return self._branch[1]

    # What is written in a way of its own for every kind.

    @property
    def spoil(self) -> str:
        """A line that spoils an argument, and one for every mask that has to be as long as the tokens."""
        lines = [self.fill(WRONG[self.kind])]
        if self.kind in OF_ANOTHER_LENGTH:
            handed = {name: how for name, how in self._layout.arguments.items() if isinstance(how, Attend)}
            lines += [f'given["{name}"] = {_as_long(name, how)}' for name, how in handed.items()]
        return "\n".join(lines)

    @property
    def mask(self) -> str:
        """An expression for a mask of some encoding, over `keep`."""
        return MASKS[self.kind]


def _as_long(name: str, how: Attend) -> str:
    """An expression for a mask that hides nothing, in the encoding of `how`, for the tokens as they are now."""
    axes = [
        "len(tokens)",
        *["1"] * (how.encoding.startswith("4-D")),
        *["tokens.shape[1]"] * (2 - (how.encoding.startswith("2-D"))),
    ]
    value = "zeros" if how.encoding.endswith("additive") else "ones"
    return f'given["{name}"].new_{value}({", ".join(axes)})'
