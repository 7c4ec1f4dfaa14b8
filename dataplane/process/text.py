"""Text that somebody else has written."""


def printable(text: str, most: int = 8192) -> str:
    """The text with a ? for every character that could do more than be seen; line ends stay."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text[:most])
