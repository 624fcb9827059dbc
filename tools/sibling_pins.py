"""Hatchling metadata hook of the packages that stand on a sibling: pins it to their own version."""

from __future__ import annotations

from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class SiblingPins(MetadataHookInterface):
    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill `dependencies` from the hook's `siblings` (pinned exactly) and `others` (as written)."""
        pinned = [f"{name}=={metadata['version']}" for name in self.config["siblings"]]
        metadata["dependencies"] = [*pinned, *self.config["others"]]
