"""The example in a store, and what became of its objects."""

from policy.errors import (
    ObjectId,
)
from policy.kinds import documents, keys, manifest
from policy.kinds.model import Intent
from policy.service import changes
from policy.service.planning import Outcome
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from tests.unit.manifests import EXAMPLE

WEB = ObjectId("Port", "blue", "blue-web")
SUBNET = ObjectId("VMSubnet", "blue", "Blue_VMSubnet1")
NETWORK = ObjectId("VMNetwork", "blue", "Blue_VMNet")


def example() -> Intent:
    stated, problems, _ = manifest.read([EXAMPLE])
    assert not problems
    return stated


def stored(store: MemoryStore) -> Intent:
    return documents.intent_from(snapshot_of(store, keys.INTENT).items)


def outcomes(plan: changes.Plan) -> dict[ObjectId, Outcome]:
    return dict(plan.outcomes)
