"""Intent and the grants of before -> the complete policy, and the grants to remember with it. Pure.

Whoever writes intent completes it and writes both in one transaction; whoever reads it resolves it. Between
the two nothing can be granted twice or get lost: grants are nowhere but in the store.
"""

from policy import allocator
from policy.grants import Book, Grant, Grants, Value
from policy.model import Intent, Policy


def complete(intent: Intent, grants: Grants, now: float) -> tuple[Policy, dict[Value, Grant]]:
    """The policy of an intent that check_intent passed, and all grants there are then.

    now: Unix seconds. ManifestError: no pool, one used up, or a value that is stated by one object and
    granted to another.
    """
    book = Book(grants, now)
    return allocator.allocate(intent, book), book.close()


def resolve(intent: Intent, grants: Grants) -> Policy:
    """The policy that was completed with these grants. ManifestError: something has not been granted."""
    return allocator.allocate(intent, Book(grants, fresh=False))
