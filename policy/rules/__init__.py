"""Admission: which objects may stand together."""
