"""What was said in a recording: heard, put on our own timeline, corrected, searched and shown as subtitles."""
