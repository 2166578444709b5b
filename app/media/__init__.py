"""Media: what a recording is, found out without letting FFmpeg near a network, a file or a secret."""
