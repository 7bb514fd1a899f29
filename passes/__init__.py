"""Passes from the intermediate representation to itself, and the pass manager."""
