"""The golden cases: all is seen from h1 of manifest.yaml; csrc/README.md has the rules they cite."""

from tests.golden import (
    cases_errors,
    cases_example,
    cases_groups,
    cases_proxy,
    cases_push,
    cases_quotes,
    cases_rewrite,
    cases_routers,
    cases_tenant,
    cases_tunnel,
    cases_underlay,
)
from tests.golden.table import Case

CASES: tuple[Case, ...] = (
    *cases_tenant.CASES,
    *cases_errors.CASES,
    *cases_proxy.CASES,
    *cases_push.CASES,
    *cases_tunnel.CASES,
    *cases_rewrite.CASES,
    *cases_quotes.CASES,
    *cases_routers.CASES,
    *cases_underlay.CASES,
    *cases_groups.CASES,
    *cases_example.CASES,
)
