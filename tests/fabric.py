"""The fabric of manifests for tests: a rack with two hosts and one that is not managed."""

FABRIC = """\
kind: LogicalNetwork
metadata: {name: fabric}
---
kind: NetworkSite
metadata: {name: rack1}
spec:
  logicalNetwork: fabric
  subnets:
    - prefix: 192.168.77.0/24
      paPool: 192.168.77.100-192.168.77.250
      gateway: 192.168.77.1
      gatewayMac: "02:00:00:00:77:fe"
    - prefix: "fd77::/64"
      paPool: "fd77::100-fd77::250"
---
kind: Host
metadata: {name: h1}
spec:
  site: rack1
  providerAddresses: [192.168.77.101]
  underlay: {interface: u1, mac: "02:00:00:00:77:01", mtu: 1600}
---
kind: Host
metadata: {name: h2}
spec:
  site: rack1
  providerAddresses: [192.168.77.102]
  underlay: {interface: u2, mac: "02:00:00:00:77:02", mtu: 1600}
---
kind: Host
metadata: {name: ovs1}
spec:
  site: rack1
  managed: false
  providerAddresses: [192.168.77.9]
  underlay: {mac: "02:00:00:00:77:09"}
"""
