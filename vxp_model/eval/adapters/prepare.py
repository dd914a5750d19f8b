"""From a setting to a model that can be asked; it is loaded when it is first needed."""

from __future__ import annotations
