"""The packet core as Python sees it: one import of the extension, codes to exceptions."""
