"""Benchmarks that measure each performance promise beside its reference (`docs/benchmarks.md`)."""
