"""The example manifest as it stands: its two tenants on the wire, with Provider Addresses as allocated."""

from pathlib import Path

from tests.golden.table import case, passes
from tests.golden.world import H1, H2, RED, ROUTER, Pa, Vm, frame, tunnel

EXAMPLE = Path(__file__).parents[2] / "examples" / "blue-red.yaml"

WEB = Vm("02:bb:00:00:00:10", "10.1.1.10", "fd00:1:1::10")
APP = Vm("02:bb:00:00:00:20", "10.1.1.20", "fd00:1:1::20")
DB = Vm("02:bb:00:00:01:20", "10.1.2.20", "fd00:1:2::20")
BLUE_WEB, BLUE_APP = Pa("192.168.77.177", "fd77::1b8"), Pa("192.168.77.110", "fd77::141")
BLUE_DB = Pa("192.168.77.222", "fd77::1ed")

OUT4 = frame(WEB.mac, APP.mac, WEB.v4, APP.v4)
OUT6 = frame(WEB.mac, APP.mac, WEB.v6, APP.v6)

CASES = (
    case(
        "example-blue-red",
        "2.10.1 2.10.7 2.11.1 2.11.9 3.5.10 3.13.7",
        "the same frames of two tenants, Blue by IP rewrite, Red by NVGRE",
        passes("blue-web", OUT4, "underlay", frame(H1.mac, H2.mac, BLUE_WEB.v4, BLUE_APP.v4)),
        passes("red-web", OUT4, "underlay", tunnel(H1, H2, RED, OUT4)),
        passes("blue-web", OUT6, "underlay", frame(H1.mac, H2.mac, BLUE_WEB.v6, BLUE_APP.v6)),
        passes("red-web", OUT6, "underlay", tunnel(H1, H2, RED, OUT6)),
        passes(
            "blue-web",
            frame(WEB.mac, ROUTER, WEB.v4, DB.v4),
            "underlay",
            frame(H1.mac, H2.mac, BLUE_WEB.v4, BLUE_DB.v4, ttl=63),
        ),
        passes(
            "underlay",
            frame(H2.mac, H1.mac, BLUE_DB.v6, BLUE_WEB.v6, ttl=63),
            "blue-web",
            frame(ROUTER, WEB.mac, DB.v6, WEB.v6, ttl=63),
        ),
        passes(
            "underlay",
            tunnel(H2, H1, RED, frame(APP.mac, WEB.mac, APP.v4, WEB.v4)),
            "red-web",
            frame(APP.mac, WEB.mac, APP.v4, WEB.v4),
        ),
        manifest=EXAMPLE,
    ),
)
