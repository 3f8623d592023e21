"""`dar-ref evaluate`: completions of several policies on the same prompts, judges that compare them, and a report."""

COMPLETIONS, DIALOGUES = "completions", "dialogues"  # folders of `generate`: of prompts, and of questions of two turns
VERDICTS, GRADES = "verdicts", "grades"  # folders of `judge`
VERSUS = ".vs."  # between two names
TASKS = ("tldr", "helpful", "harmless")  # the columns of the paper's Table 1
OTHER = "other"  # prompts of no task of the paper
TURNS = 2  # of a question of MT-Bench
