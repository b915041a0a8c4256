"""The viewer: see results in the browser, correct them, annotate cells."""
