"""Annotations: answers of people (or vision models) on which cells are positive for a marker."""
