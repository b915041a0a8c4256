"""Colours, figures and pictures of cell types."""
