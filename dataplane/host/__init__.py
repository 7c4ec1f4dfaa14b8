"""Devices, namespaces, sockets and BPF of the host."""
