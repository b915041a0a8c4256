"""Annotations: which cells are positive for which markers, as people or models called them."""
