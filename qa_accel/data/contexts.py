"""A column of contexts -> which rows share a text, and the texts, of which one at a time is in memory.

Hundreds of questions may share a document of a million characters: as Python strings, the contexts of all rows would take
gigabytes. Q rows of the column.
"""

import numpy as np
import pyarrow as pa

VIEW = "V16"
"""A value of a string view: length and place of the text."""


class Contexts:
    """The distinct texts of a column of an Arrow table."""

    def __init__(self, column: pa.ChunkedArray):
        texts = column.combine_chunks()
        if isinstance(texts, pa.ChunkedArray):  # an empty one
            texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], column.type)
        if texts.type == pa.string_view():
            # Rows of one text point to one place, see squad_format.stored_once; nothing is read. Texts of two places may be equal.
            views_Q = np.frombuffer(texts.buffers()[1], VIEW, count=len(texts), offset=16 * texts.offset)
            _, first, text_Q = np.unique(views_Q, return_index=True, return_inverse=True)
        else:
            encoded = texts.dictionary_encode()
            texts, text_Q = encoded.dictionary, encoded.indices.to_numpy()
            first = np.arange(len(texts))
        self.text_Q: np.ndarray = text_Q.reshape(-1)
        """Number of each row's text."""
        self._texts, self._first = texts, first
        self._last: tuple[int, str] = -1, ""

    def __len__(self) -> int:
        return len(self._first)

    def text(self, number: int) -> str:
        """One of the texts. The last one that was given is remembered: neighbouring rows often share it."""
        if self._last[0] != number:
            self._last = number, self._texts[int(self._first[number])].as_py()
        return self._last[1]
