"""hooks: names that lie, hooks that are dead, doubled, late, or that stay behind."""

from . import algebra, attention, firing, lifecycle, registry, shapes  # noqa: F401
