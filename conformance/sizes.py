"""Sizes: whole numbers written as formulas over a spec's sizes, such as `"2*n"`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Arithmetic = Callable[[int, int], int]
OPERATORS: Mapping[type[ast.operator], Arithmetic] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
FUNCTIONS: Mapping[str, Callable[..., int]] = {"max": max, "min": min}


@dataclass(frozen=True, slots=True)
class Size:
    """A whole number written as a formula over a spec's sizes: `Size("4*d_model")`."""

    formula: str

    @property
    def names(self) -> frozenset[str]:
        """The sizes that the formula speaks of."""
        named = (node.id for node in ast.walk(ast.parse(self.formula)) if isinstance(node, ast.Name))
        return frozenset(named) - FUNCTIONS.keys()

    def of(self, sizes: Mapping[str, int]) -> int:
        """The value under `sizes`; ValueError names the formula, the culprit and the sizes there are."""

        def value(node: ast.expr) -> int:
            match node:
                case ast.Constant(value=int(number)):
                    return number
                case ast.Name(id=name) if name in sizes:
                    return sizes[name]
                case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                    return OPERATORS[type(op)](value(left), value(right))
                case ast.Call(func=ast.Name(id=name), args=[first, second], keywords=[]) if name in FUNCTIONS:
                    return FUNCTIONS[name](value(first), value(second))
            known = ", ".join(sorted(sizes))
            if isinstance(node, ast.Name):
                raise ValueError(f"size {self.formula!r}: no size is called {node.id!r}; known: {known or 'none'}")
            raise ValueError(
                f"size {self.formula!r}: cannot read {ast.unparse(node)!r}; "
                f"use whole numbers, + - * //, max, min and {known}"
            )

        try:
            return value(ast.parse(self.formula, mode="eval").body)
        except (SyntaxError, TypeError):
            raise ValueError(f"size {self.formula!r} is not a formula; write one like '2*n'") from None
        except ZeroDivisionError:
            raise ValueError(f"size {self.formula!r} divides by zero where {dict(sizes)}") from None
