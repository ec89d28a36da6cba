"""What disks, copies and accidents do to a file's bytes."""

from collections.abc import Callable


def _overwritten(place: float, bytes_: bytes) -> Callable[[bytes], bytes]:
    """Some bytes replaced, at a fraction of the length."""

    def damage(content: bytes) -> bytes:
        begin = int(place * len(content))
        return content[:begin] + bytes_ + content[begin + len(bytes_) :]

    return damage


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "not Arrow": lambda content: b"x" * len(content),
    "zeros in the middle": _overwritten(0.5, bytes(200)),
    "ones in the middle": _overwritten(0.5, b"\xff" * 200),
    "8 bytes at 3/16": _overwritten(3 / 16, b"\x5a" * 8),
    "8 bytes at 7/16": _overwritten(7 / 16, b"\x5a" * 8),
    "8 bytes at 15/16": _overwritten(15 / 16, b"\x5a" * 8),
    "one bit": lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
}
