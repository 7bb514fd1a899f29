"""The benchmark table of the documentation: `python -m benchmarks`."""
