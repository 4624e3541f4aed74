"""Reward of the countdown targets: 0.1 for a well-formed expression, 0.9 for a correct one.

An expression is correct when it uses every given number exactly once and equals the target. It is
read by the small parser below with exact fractions; nothing a model wrote is ever evaluated. Pure:
no I/O, no state. Only the first line counts; a trailing "= <number>" is allowed.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

LONGEST = 120
"""Characters of a response that are read; a longer first line is no expression."""
DEEPEST = 12
"""Nested parentheses."""
TOKEN = re.compile(r"\s*(\d{1,6}|[-+*/()])")


class ExpressionError(ValueError):
    """The text is not a sum, difference, product or quotient of whole numbers."""


def tokens(text: str) -> list[str]:
    """Numbers, signs and parentheses of `text`; raises ExpressionError on anything else."""
    found, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise ExpressionError(text[place : place + 10])
        found.append(match.group(1))
        place = match.end()
    return found


class Parser:
    """Recursive descent over sum := product (+|- product)*, product := atom (*|/ atom)*."""

    def __init__(self, found: list[str]) -> None:
        self.left = found[::-1]
        self.used: list[int] = []

    def peek(self) -> str:
        """The next token, "" at the end."""
        return self.left[-1] if self.left else ""

    def sum(self, depth: int) -> Fraction:
        """Value of a sum."""
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            sign = self.left.pop()
            term = self.product(depth)
            value = value + term if sign == "+" else value - term
        return value

    def product(self, depth: int) -> Fraction:
        """Value of a product; division by zero is no expression."""
        value = self.atom(depth)
        while self.peek() in ("*", "/"):
            sign = self.left.pop()
            factor = self.atom(depth)
            if sign == "/" and factor == 0:
                raise ExpressionError("division by zero")
            value = value * factor if sign == "*" else value / factor
        return value

    def atom(self, depth: int) -> Fraction:
        """Value of a number or of a sum in parentheses."""
        found = self.left.pop() if self.left else ""
        if found.isdigit():
            self.used.append(int(found))
            return Fraction(int(found))
        if found != "(" or depth >= DEEPEST:
            raise ExpressionError(found)
        value = self.sum(depth + 1)
        if not self.left or self.left.pop() != ")":
            raise ExpressionError("a parenthesis stays open")
        return value


def parse(response: str) -> tuple[Fraction, list[int]]:
    """Value of the response's first line and the numbers it uses."""
    line = response.strip().split("\n", 1)[0].strip()
    if len(line) > LONGEST:
        raise ExpressionError("too long")
    expression = re.sub(r"\s*=\s*-?\d{1,9}\.?$", "", line)
    parser = Parser(tokens(expression))
    value = parser.sum(0)
    if parser.left:
        raise ExpressionError(parser.peek())
    return value, parser.used


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether the response is a well-formed expression."""
    del item
    try:
        parse(response)
    except ExpressionError:
        return False
    return True


def reward(response: str, item: Mapping[str, Any]) -> float:
    """0.0 no expression, 0.1 a wrong one, 1.0 a correct one."""
    try:
        value, used = parse(response)
    except ExpressionError:
        return 0.0
    right = value == item["target"] and sorted(used) == sorted(item["numbers"])
    return 1.0 if right else 0.1


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
