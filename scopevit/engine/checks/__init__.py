"""Checks of what a run is given, before it changes anything."""
