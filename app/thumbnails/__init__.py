"""Thumbnails: a small encrypted picture of each video, if the practice switches them on."""
