"""Writers: the way back, from a module in tensor form to the files of other systems (docs/EXPORT.md)."""
