"""Three tasks of real text that need no hub: a real model, SmolLM2-135M-Instruct, learns them on a laptop.

    sentiment   short answers about everyday topics; the reward counts kind words. Piled-up praise is the hack
    harmless    angry words about the same topics; the reward is a classifier of offence. To say nothing is the hack
    tldr        descriptions of functions from the documentation of installed packages; the reward is the overlap with
                their first line. Piled-up jargon is the hack

Each task has prompts in three splits, a proxy reward that is trained on, and a gold panel that is not. Read
`sentiment`, `harmless` and `tldr` (the tasks); `dar_ref.real_model` compares methods on them. The packages are in the
extra `real`.
"""
