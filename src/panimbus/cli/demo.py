"""Coming."""


def command() -> None:
    """Coming."""
