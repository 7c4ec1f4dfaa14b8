"""Two VMs of one tenant on one host, as a manifest."""

TWO_VMS = """
apiVersion: isolane/v1
kind: LogicalNetwork
metadata: {name: fabric}
---
apiVersion: isolane/v1
kind: NetworkSite
metadata: {name: rack1}
spec: {logicalNetwork: fabric, subnets: [{prefix: 192.168.77.0/24}]}
---
apiVersion: isolane/v1
kind: Host
metadata: {name: h1}
spec: {site: rack1, providerAddresses: [192.168.77.101], underlay: {interface: u1}}
---
apiVersion: isolane/v1
kind: VMNetwork
metadata: {name: net, tenant: t}
spec: {logicalNetwork: fabric}
---
apiVersion: isolane/v1
kind: VMSubnet
metadata: {name: sub, tenant: t}
spec: {vmNetwork: net, prefixes: [10.1.1.0/24, "fd00:1:1::/64"], vsid: 5001, translation: nvgre}
---
apiVersion: isolane/v1
kind: Port
metadata: {name: one, tenant: t}
spec: {vmSubnet: sub, host: h1, addresses: [10.1.1.10, "fd00:1:1::10"], mac: "02:bb:00:00:00:10"}
---
apiVersion: isolane/v1
kind: Port
metadata: {name: two, tenant: t}
spec: {vmSubnet: sub, host: h1, addresses: [10.1.1.20, "fd00:1:1::20"], mac: "02:bb:00:00:00:20"}
"""

MACS = {"one": "02:bb:00:00:00:10", "two": "02:bb:00:00:00:20"}

ADDRESSES = {"one": ("10.1.1.10", "fd00:1:1::10"), "two": ("10.1.1.20", "fd00:1:1::20")}
