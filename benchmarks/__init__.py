"""What the package promises in numbers, measured: ``python -m benchmarks``."""
