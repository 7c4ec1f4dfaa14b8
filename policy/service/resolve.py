"""Manifests alone, without a store: `Intent` -> `Policy`, or every problem of the file set at once."""

from collections.abc import Iterable
from pathlib import Path

from policy.errors import ManifestError
from policy.ipam import allocate
from policy.kinds import manifest
from policy.kinds.manifest import Stated
from policy.kinds.model import Policy
from policy.kinds.steps import step
from policy.rules import admission


def load(files: Iterable[Path]) -> Policy:
    """The policy that the manifests state, complete. ManifestError: all that is wrong with them."""
    return resolve(manifest.read(files))


def resolve(stated: Stated) -> Policy:
    """What manifests state, as a policy. ManifestError."""
    intent = stated.intent
    problems = [*stated.problems, *admission.check_intent(intent)]
    if problems:
        raise ManifestError(problems)
    with step("allocating"):
        policy = allocate.allocate(intent)
    problems = admission.check_policy(policy)
    if problems:
        raise ManifestError(problems)
    return policy
