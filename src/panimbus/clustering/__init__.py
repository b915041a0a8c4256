"""Groups of cells with alike scores: a self-organising map, and a consensus of many groupings of its nodes."""
