"""Reads media files in child processes, so that FFmpeg never has a network, a file or a secret."""
