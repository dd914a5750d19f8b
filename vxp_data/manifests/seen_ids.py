"""Which sample ids were given: 82 bytes for each, however long it is.

Of an id a digest of eight bytes is kept, as a Python integer in a set. Two ids in ten million have
the same with a probability of 3 in a million; the later one then ends in '#2' as if it were a
repetition, here and on every run. No id is given twice for it.
"""

from __future__ import annotations

import hashlib


class SeenIds:
    """Gives every row an id that no other row has; one for all datasets of a run."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._times: dict[int, int] = {}
        """Of ids that were wanted more than once: up to which number they are given."""

    def unique(self, wanted: str) -> tuple[str, bool]:
        """Return an id for a row: the wanted one, or that with '#2', '#3' ... if it was given.

        Returns:
            The id, and whether the wanted one was given before.
        """
        digest = _digest(wanted)
        if digest not in self._seen:
            self._seen.add(digest)
            return wanted, False
        times = self._times.get(digest, 1)
        while True:  # '#2' may itself be somebody's id
            times += 1
            unique = f"{wanted}#{times}"
            own = _digest(unique)
            if own not in self._seen:
                break
        self._times[digest] = times
        self._seen.add(own)
        return unique, True


def _digest(text: str) -> int:
    raw = text.encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())
