"""How fast, against whom: benchmarks of the packet core and of whole hosts."""
