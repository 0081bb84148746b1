"""hooks: every advertised hook is what its name says, fires as declared, comes and goes. PYTEST_DONT_REWRITE"""

from . import registry, firing, shapes, algebra, attention, lifecycle, turns, refusals, copies  # noqa: F401, I001 - the order of the contract
