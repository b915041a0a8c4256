"""Clustering of cells by their scores: a self-organising map and a consensus.

A self-organising map, and a consensus of many groupings of its nodes.
"""
