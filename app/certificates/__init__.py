"""Certificates of destruction. A certificate states what was destroyed, under which retention policy, and that no
legal hold covered the recording.
"""
