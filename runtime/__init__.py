"""Load and run artifacts with NumPy and the standard library only."""
