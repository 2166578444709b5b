"""What is promised of speed, measured side by side with what it is promised against; `docs/benchmarks.md`."""
