"""The whole of RLHF on a CPU: SFT, comparisons, reward model, online training by every method, evaluation.

Read `tasks`, then `start`, then `train` and `methods`. `dar-ref toy --help` lists the commands.
"""

from transformers.utils import logging

logging.disable_progress_bar()  # of saving and loading models of 300 kB; ours are rich's
