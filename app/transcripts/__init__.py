"""Transcripts of recordings: transcription, times on the video's timeline, corrections, search and subtitles."""
