"""Trains on which core and twin once disagreed: (what it was, world, train), as hypothesis printed them."""

from tests.oracle.strategies import Step
from tests.oracle.world import World

REGRESSIONS: list[tuple[str, World, list[Step]]] = []
