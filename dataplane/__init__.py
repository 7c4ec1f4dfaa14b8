"""Binding of the packet core: engine, ports, change sets, counters."""
