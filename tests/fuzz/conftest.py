"""Fuzzing of parsers: whatever the bytes, nothing but our own errors comes out.

Every test here asks for ``@settings(max_examples=500)`` of its own; the seeds are fixed
(tests/conftest.py).
"""
