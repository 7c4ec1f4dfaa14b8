"""Intent: manifests, the typed model, allocation and the compiler to packed tables."""
