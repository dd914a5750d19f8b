"""YAML from people we need not trust: plain values only, each key once, nothing that multiplies."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Builds no objects; refuses doubled keys, of which YAML would silently take the last."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases: nine lines of them can stand for a billion values."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, "an alias (*name); write the value itself", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys differ."""
        mapping = super().construct_mapping(node, deep)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} once more; it may stand once", key_node.start_mark
                )
            seen.add(key)
        return mapping


def load_yaml(text: str) -> Any:
    """Read one YAML document.

    Raises:
        ValueError: it is not YAML, or has an alias, a doubled key or thousands of levels; in one
            line, with line and column where YAML tells them.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("nested thousands of levels deep") from error
