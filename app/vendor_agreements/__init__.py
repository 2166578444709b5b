"""The register of business associate agreements: which company runs which service, and under which agreement."""
