"""Cell types from scores: rules, competition, edits, reports and outputs."""
