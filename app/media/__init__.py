"""Reads media files in child processes, so that FFmpeg has no access to the network, to files or to secrets."""
