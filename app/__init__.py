"""Resguardo: the recording backend of a telehealth practice."""
