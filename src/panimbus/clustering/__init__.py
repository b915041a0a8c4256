"""Groups of cells with alike scores.

A self-organising map, and a consensus of many groupings of its nodes.
"""
