"""Evaluation for both engines: win rates, length control, intervals, the hacking panel, tables.

Functions take numbers (numpy arrays or lists, one entry per completion, prompt or seed) and return floats or frozen
tuples. This package loads no torch and no model, and asks no judge. Rates and shares are in [0, 1]; only tables show
percent.
"""

from dar_ref.evaluation.alpaca_eval import alpaca_eval_rows, alpaca_eval_win_rate
from dar_ref.evaluation.hacking import HackingPanel, hacking_panel, repetition, reward_gap
from dar_ref.evaluation.hacking_verdict import HackingVerdict, Sign, hacking_verdict
from dar_ref.evaluation.intervals import Interval, NotAnInterval, bootstrap, mean, paired_difference, student, wilson
from dar_ref.evaluation.length_control import LengthControlled, length_controlled_win_rate
from dar_ref.evaluation.tables import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_2,
    TABLE_2_COLUMNS,
    Column,
    Reported,
    Table,
    comparison_table,
    format_interval,
    markdown,
    plain_text,
)
from dar_ref.evaluation.win_rate import (
    BothOrders,
    WinMatrix,
    WinRate,
    both_orders,
    score_outcomes,
    win_matrix,
    win_rate,
)

__all__ = [
    "TABLE_1",
    "TABLE_1_COLUMNS",
    "TABLE_2",
    "TABLE_2_COLUMNS",
    "BothOrders",
    "Column",
    "HackingPanel",
    "HackingVerdict",
    "Interval",
    "LengthControlled",
    "NotAnInterval",
    "Reported",
    "Sign",
    "Table",
    "WinMatrix",
    "WinRate",
    "alpaca_eval_rows",
    "alpaca_eval_win_rate",
    "bootstrap",
    "both_orders",
    "comparison_table",
    "format_interval",
    "hacking_panel",
    "hacking_verdict",
    "length_controlled_win_rate",
    "markdown",
    "mean",
    "paired_difference",
    "plain_text",
    "repetition",
    "reward_gap",
    "score_outcomes",
    "student",
    "wilson",
    "win_matrix",
    "win_rate",
]
