"""Pictures, charts and HTML pages: the parts that reports share."""
