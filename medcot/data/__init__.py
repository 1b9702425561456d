"""Rows of any file or Hub data set, checked into examples."""

from medcot.data.examples import (
    Example,
    check,
    columns_of,
    read_records,
)
from medcot.data.files import FIX_SURROGATE, SURROGATE, BadRow, has_surrogate
from medcot.data.rows import MOST_PROBLEMS, cut, read_objects, read_rows
from medcot.data.split import Repeated, Split, load, load_fitted
