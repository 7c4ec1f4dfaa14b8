"""Intent and the grants of before -> the complete policy, and the grants to remember with it. Pure.

Whoever writes intent completes it and writes both in one transaction: nothing can be granted twice or get
lost in between.
"""

from policy import allocator
from policy.grants import Book, Grant, Grants, Others, Value
from policy.model import Intent, Policy


def complete(
    intent: Intent, grants: Grants, now: float, others: Others | None = None
) -> tuple[Policy, dict[Value, Grant]]:
    """The policy of an intent that check_intent passed, and all grants there are then.

    now: Unix seconds. others: what they have who are not in a part of an intent; its grants are then those
    of the objects in it. ManifestError: no pool, one used up, or a value that is stated by one object and
    granted to another.
    """
    book = Book(grants, now, others)
    return allocator.allocate(intent, book), book.close()
