"""What a host's view of the intent is compared with: what the compiler says of all of it."""

from policy.compile import diff
from policy.compile.compiler import compile_host
from policy.compile.host_view import Whole
from policy.compile.tables import Ids
from policy.kinds import documents
from policy.kinds.model import Policy

HERE = "h1"


def items_of(policy: Policy) -> dict[str, bytes]:
    return documents.items_of(policy.by_id.values())


def rows_of(whole: Whole) -> diff.Rows:
    return diff.index(whole.rows)


def wanted(policy: Policy, host: str, ids: Ids) -> diff.Rows:
    """By the compiler; nothing of a host that is not there."""
    if host not in policy.host_by_name:
        return diff.index({})
    return diff.rows_of(compile_host(policy, host), ids)
