"""From scores to cell types: SOM, consensus, rules, edits, and the way back to the tissue."""
