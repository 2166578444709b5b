"""Changes that one compliance officer proposes and a second officer decides."""
