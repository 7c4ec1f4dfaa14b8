"""Hosts and tenants in network namespaces of one machine."""
