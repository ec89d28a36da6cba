"""Errors of the hub and of its client -> one ValueError that says what to do, without token, password or signed address."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from huggingface_hub import constants

from qa_accel.messages import one_line

HTTP_LIBRARIES = ("httpx", "httpcore", "requests", "urllib3")
"""Modules of what huggingface_hub's versions send requests with."""
LOGIN = "Set HF_TOKEN, or run `hf auth login`"


class Busy(ValueError):
    """The hub is there, and could not answer now."""


@contextmanager
def explained() -> Iterator[None]:
    """Errors of the hub and of its client become one ValueError that says what to do."""
    try:
        yield
    except Exception as error:  # the client, its HTTP library and its threads each raise their own kinds
        is_ours = isinstance(error, ValueError) and str(error).startswith("--")
        is_a_bug = isinstance(error, AssertionError | AttributeError | TypeError)
        if is_ours or is_a_bug or (isinstance(error, OSError) and error.filename is not None):  # a file of the folder
            raise
        # not `from error`: requests, with their headers, hang on these exceptions
        raise explanation(error) from None


def explanation(error: BaseException) -> ValueError:
    chain = [error]
    while chain[-1].__cause__ is not None:  # an upload's own error is the cause of another
        chain.append(chain[-1].__cause__)
    status = next(filter(None, (getattr(getattr(one, "response", None), "status_code", None) for one in chain)), None)
    of_network = any(isinstance(one, OSError) or type(one).__module__.startswith(HTTP_LIBRARIES) for one in chain)
    place = f"--push_to_hub: {_endpoint()}"
    said = one_line(getattr(error, "server_message", None) or str(error) or type(error).__name__)
    # addresses may hold a password, or the signature of an upload
    said = re.sub(r"\?[^\s'\")]+", "", re.sub(r"//[^/\s@]*@", "//", said))
    if status == 401:
        return ValueError(f"{place} does not accept the token. {LOGIN} with one that is valid and can write")
    if status == 403:
        return ValueError(
            f"{place} does not let this token write there ({said}). {LOGIN} with one that can, or take another --hub_model_id"
        )
    if status == 404:
        return ValueError(f"{place} does not find the repository or the branch ({said}); check --hub_model_id")
    if status == 429 or (status or 0) >= 500:
        return Busy(f"{place} answers {status} ({said}); try again later")
    if status is not None or isinstance(error, ValueError):
        return ValueError(f"{place} refuses the upload ({said})")
    if not of_network:
        return ValueError(
            f"{place}: the upload failed ({type(error).__name__}: {said}); try again, or update huggingface_hub"
        )
    return ValueError(
        f"{place} cannot be reached from here ({said}). Check the network, HTTPS_PROXY and HF_ENDPOINT; on a node without "
        "network leave --push_to_hub out, and upload later from one that has it: scripts/report.py RUN --push_to_hub"
    )


def _endpoint() -> str:
    """The hub's address, without a password that somebody put there."""
    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
