"""Which classes are taken for which others."""

import numpy as np
import pandas as pd

from defects_in_welds.evaluation.matching import MatchTable
from defects_in_welds.taxonomy import BACKGROUND, MISSED


def confusion_matrix(table: MatchTable, min_score: float) -> pd.DataFrame:
    """Count under which class the flaws of each class are reported.

    Each flaw is counted once, and so is each report, but for difficult flaws and ignored reports, which are left out:
    a row adds up to the flaws of its class; a class's diagonal is its found flaws; the rest of its row, without
    ``missed``, its misnamed ones; and a column, less its diagonal, its false calls.

    Args:
        table: The matches.
        min_score: Least score of the reports that count.

    Returns:
        Counts; the rows are the true classes and ``background``, the columns the reported classes and ``missed``.
    """
    names = table.flaws["defect_class"].cat.categories
    nothing = len(names)
    truth, other = (table.flaws[column].cat.codes.to_numpy() for column in ("defect_class", "other_class"))
    is_found, is_missed, is_misnamed = (
        told(min_score) for told in (table.is_found, table.is_missed, table.is_misnamed)
    )
    reported = np.select([is_found, is_misnamed], [truth, other], default=nothing)
    is_counted = is_found | is_missed

    counts = np.zeros((nothing + 1, nothing + 1), dtype=np.int64)
    np.add.at(counts, (truth[is_counted], reported[is_counted]), 1)
    false_calls = table.detections["defect_class"].cat.codes.to_numpy()[table.is_false_call(min_score)]
    # The report of a misnamed flaw is a false call, which is already in the row of the flaw.
    misnamed_as = np.bincount(other[is_misnamed], minlength=nothing)
    counts[nothing, :nothing] = np.bincount(false_calls, minlength=nothing) - misnamed_as
    return pd.DataFrame(counts, index=[*names, BACKGROUND], columns=[*names, MISSED])
