"""The colours in which pictures tell defect classes apart."""

# Told apart on grey, also by the colour-blind (Okabe and Ito).
_COLOURS = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")


def class_colour(label: int) -> str:
    """Give a class id its colour, as ``#RRGGBB``; after seven classes the colours come again."""
    return _COLOURS[(label - 1) % len(_COLOURS)]
