"""Evaluation: scores against annotations, baselines, charts and reports."""
