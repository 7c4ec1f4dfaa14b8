"""What a command line calls the kinds: in the singular, in the plural, or by a short name, in any case."""

from tools.errors import Misuse, did_you_mean

SHORT_NAMES = {
    "Tenant": "tn",
    "LogicalNetwork": "ln",
    "NetworkSite": "site",
    "Host": "ho",
    "ProviderRoute": "pr",
    "ProviderAddress": "pa",
    "IPPool": "ipp",
    "MACPool": "macp",
    "VMNetwork": "vmn",
    "VMSubnet": "vms",
    "Port": "po",
    "CustomerRoute": "cr",
    "LookupRecord": "lr",
}

ALL = "all"
"""Stands for every kind."""


def plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def words_for(kind: str) -> tuple[str, ...]:
    """All that it is called."""
    return kind.lower(), plural(kind).lower(), SHORT_NAMES[kind]


def find(word: str) -> str:
    """The kind that is called so. Misuse: none is."""
    from policy.kinds.model import KINDS

    called = {name: kind for kind in KINDS for name in words_for(kind)}
    if word.lower() not in called:
        near = did_you_mean(word, [kind.lower() for kind in KINDS]) or did_you_mean(word, list(called))
        hint = near or "isolane api-resources lists the kinds"
        raise Misuse(f"{word!r} is not a kind", hint)
    return called[word.lower()]


def take_tenants(kind: str) -> bool:
    """Whether objects of the kind may be of a tenant."""
    from policy.kinds.model import KINDS

    return KINDS[kind].of_tenant is not False
