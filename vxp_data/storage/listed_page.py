"""What a store says of its objects, asked for singly or listed a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from vxp_data.storage.lookup_plan import just_before

_KEYS_A_PAGE: Final = 1000
"""What S3 and Google give at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """What a store says of one object."""

    num_bytes: int
    etag: str
    """The store's name of this content; a time of change where it has none."""

    @property
    def file_version(self) -> str:
        """Return size and etag as one text, by which a changed object is known."""
        return f"{self.num_bytes}-{self.etag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Objects that follow each other in a bucket."""

    facts: dict[str, ObjectFacts]
    """By key, in the order in which they came."""
    is_last: bool
    """Nothing follows below the prefix."""

    def answers_for(self, key: str) -> bool:
        """Whether it says what there is of a key, at or behind that from which it was listed."""
        return self.is_last or (bool(self.facts) and key <= next(reversed(self.facts)))

    def is_ordered(self, first: str) -> bool:
        """Whether it ascends from about that key, as listings of S3 do but for a kind of bucket."""
        keys = [just_before(first), *self.facts]
        return all(one <= other for one, other in pairwise(keys))


def s3_page(fs: Any, bucket: str, prefix: str, first: str, deadline: Mapping[str, float]) -> Page:
    """List one page of S3, by s3fs; see `ObjectStore.page`."""
    answer = fs.call_s3(
        "list_objects_v2",
        Bucket=bucket,
        Prefix=prefix,
        StartAfter=just_before(first),
        MaxKeys=_KEYS_A_PAGE,
        **deadline,
    )
    found = {
        entry["Key"]: facts_of({"size": entry["Size"], "ETag": entry["ETag"]})
        for entry in answer.get("Contents", ())
    }
    return Page(facts=found, is_last=not answer.get("IsTruncated"))


def gs_page(fs: Any, bucket: str, prefix: str, first: str, deadline: Mapping[str, float]) -> Page:
    """List one page of Google's store, by gcsfs; see `ObjectStore.page`."""
    answer = fs.call(
        "GET",
        "b/{}/o",
        bucket,
        prefix=prefix or None,
        startOffset=first,
        maxResults=_KEYS_A_PAGE,
        json_out=True,
        **deadline,
    )
    found = {entry["name"]: facts_of(entry) for entry in answer.get("items", ())}
    return Page(facts=found, is_last="nextPageToken" not in answer)


def facts_of(entry: Mapping[str, Any]) -> ObjectFacts:
    """Read what a client library says of an object."""
    etag = entry.get("ETag") or entry.get("etag") or entry.get("mtime") or ""
    return ObjectFacts(num_bytes=int(entry["size"]), etag=str(etag).strip('"'))
