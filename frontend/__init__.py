"""Frontends: each package turns one file format into the intermediate representation."""
