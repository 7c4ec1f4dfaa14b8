"""The way from one intent to the next."""

from operator import attrgetter

from policy.kinds.model import Intent, LookupRecord
from policy.rules.uses import Problems


def records_keep_what_identifies_them(before: Intent, after: Intent) -> Problems:
    """As in HNV, where a record's VSID, CA, MAC and type are immutable."""
    immutable = ("virtualSubnetId", "customerAddress", "macAddress", "type")
    fixed = attrgetter("virtual_subnet_id", "customer_address", "mac_address", "type")
    for record in after.lookup_records:
        old = before.by_id.get(record.id)
        if not isinstance(old, LookupRecord):
            continue
        for name, was, is_now in zip(immutable, fixed(old), fixed(record), strict=True):
            if was != is_now:
                text = f"{was} can't be changed to {is_now}: delete the record first"
                yield after.problem(record.id, f"spec.{name}", text)
