"""Tokens of a split's questions and the settings of windows -> how many questions are cut, and a length that cuts few.

How many tokens a question has depends on the tokenizer: one that takes bytes, or was trained on English alone, makes
several times as many of a question in Thai or Hindi.

Q questions.
"""

from dataclasses import dataclass

import numpy as np

from qa_accel.data.settings import WindowConfig

MANY = 0.01
"""Share of the questions above which cutting them is said."""
FEW = 0.001
"""Share of the questions that the suggested length may cut."""
MULTIPLE = 8


@dataclass(frozen=True)
class CutQuestions:
    """What max_query_length does to more than MANY of the questions."""

    questions: int
    cut: int
    suggested: int | None
    """A max_query_length; None if max_seq_length leaves no room for a longer one."""
    cut_then: int
    """Questions that are longer than the suggested length."""

    def described(self, config: WindowConfig) -> str:
        """One sentence for a warning."""
        said = (
            f"{self.cut:,} of {self.questions:,} questions ({self.cut / self.questions:.1%}) have more than "
            f"--max_query_length {config.max_query_length} tokens and are cut: the model does not read their ends. "
        )
        if self.suggested is None:
            return said + f"--max_seq_length {config.max_seq_length} leaves no room for longer ones: raise it first"
        said += f"--max_query_length {self.suggested} cuts {self.cut_then:,}"
        if self.cut_then > FEW * self.questions:
            said += f", which is the most that --max_seq_length {config.max_seq_length} leaves room for"
        return said


def cut_questions(tokens_Q: np.ndarray, config: WindowConfig, special_tokens: int) -> CutQuestions | None:
    """None if no more than MANY of the questions are cut. tokens_Q: their tokens before that.

    The suggested length is the smallest multiple of MULTIPLE that cuts at most FEW of the questions, and no more than half
    of a window or what is left of it beside doc_stride (see `check_tokenizer`).
    """
    cut = int(np.count_nonzero(tokens_Q > config.max_query_length))
    if cut <= MANY * len(tokens_Q):
        return None
    # of all lengths the one that so many questions exceed, at most
    place = len(tokens_Q) - 1 - int(FEW * len(tokens_Q))
    enough = int(np.partition(tokens_Q, place)[place])
    most = min(config.max_seq_length // 2, config.max_seq_length - special_tokens - config.doc_stride - 1)
    suggested = min(-(-enough // MULTIPLE), most // MULTIPLE) * MULTIPLE
    if suggested <= config.max_query_length:
        return CutQuestions(len(tokens_Q), cut, None, cut)
    return CutQuestions(len(tokens_Q), cut, suggested, int(np.count_nonzero(tokens_Q > suggested)))
