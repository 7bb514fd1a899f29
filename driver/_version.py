"""The version of planish, written once: packaging, the command line and every artifact read it from here."""

__version__ = "0.1.0"
