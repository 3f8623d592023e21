"""An AI annotator: a language model behind an OpenAI-compatible endpoint that scores a response by a rubric.

Each completion is one request to an `Endpoint`, at temperature 0; `annotator_score` reads the score. An answer without
a score leaves the completion unscored. An endpoint that does not answer stops the run, and so does a judge whose
answers all end at `max_tokens` before a score: no score is ever made up.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards import Text, flat_text, response_text
from dar_ref.llm.rewards.annotator_score import TokenChoice, read_score
from dar_ref.llm.rewards.endpoint import Endpoint
from dar_ref.llm.rewards.rubric import read_rubric


class Annotator:
    """Asks the model `options.name` for a score of each completion.

    `counts`: those of the endpoint; no_score, answers without a score; cut, those of them that ended at `max_tokens`;
    written, scores that are the written number because there were no log-probs, or too little probability on scores.

    Raises:
        ValueError: a key is needed and missing, the address contains a key, or the rubric cannot be read, or lacks
            {prompt} or {response}.
    """

    def __init__(self, options: RewardOptions) -> None:
        self.options, self._counts, self._read_so_far = options, Counter[str](), 0
        self.rubric = read_rubric(options.rubric)
        self.endpoint = Endpoint(options)

    @property
    def address(self) -> str:
        """The endpoint's."""
        return self.endpoint.address

    @property
    def counts(self) -> Counter[str]:
        """How often each of these happened since the start."""
        return self._counts + self.endpoint.counts

    def render(self, prompt: Text, completion: Text, ended: bool = True) -> str:  # noqa: ARG002
        """The message for the annotator. It does not say whether the completion ended: only `missing_eos_penalty` acts
        on that."""
        lowest, highest = self.options.scores
        places = {
            "prompt": flat_text(prompt),
            "response": response_text(completion),
            "lowest": str(lowest),
            "highest": str(highest),
        }
        return re.sub(r"\{(prompt|response|lowest|highest)\}", lambda place: places[place[1]], self.rubric)

    def score(self, prompts: Sequence[Text], completions: Sequence[Text], ended: Sequence[bool]) -> list[float | None]:
        """The reward of each completion; None if the answer has no score.

        Raises:
            ConnectionError: after all retries, the endpoint is down, too slow or faulty.
            ValueError: the endpoint refuses the request because of the key, the model's name or an option, or every
                answer so far was cut off before a score.
            OSError: the cache cannot be read or written.
        """
        answers = self.endpoint.replies([self.render(*row) for row in zip(prompts, completions, ended, strict=True)])
        rewards = [self._reward(answer) for answer in answers]
        if rewards and self._counts["cut"] == self._read_so_far:
            raise ValueError(
                f"every answer of {self.options.name!r} ended at reward.max_tokens = {self.options.max_tokens} before a"
                " score; raise it (a judge that thinks needs hundreds or thousands), or turn its thinking off"
            )
        return rewards

    def content(self) -> str:
        """A hash of the rubric."""
        return hashlib.sha256(self.rubric.encode()).hexdigest()

    def close(self) -> None:
        """Close the connections."""
        self.endpoint.close()

    def _reward(self, answer: Mapping[str, Any]) -> float | None:
        tokens = [TokenChoice(text, alternatives) for text, alternatives in answer["tokens"]]
        score = read_score(answer["text"], tokens, *self.options.scores)
        self._read_so_far += 1
        self._counts["no_score"] += score is None
        self._counts["cut"] += score is None and answer.get("cut", False)
        self._counts["written"] += score is not None and not score.expected
        return None if score is None else score.value
