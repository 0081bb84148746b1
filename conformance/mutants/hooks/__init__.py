"""hooks: names that lie, hooks that are dead, doubled, late, or that stay behind."""

from . import algebra, attention, copies, firing, lifecycle, refusals, registry, shapes, turns  # noqa: F401
