"""What a reader says of bad data."""

from defects_in_welds.params import UserError


def error_of(read, data):
    try:
        read(data)
    except UserError as error:
        return str(error)
    return ""
