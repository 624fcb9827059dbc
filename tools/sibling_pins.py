"""Hatchling metadata hook of the packages that stand on siblings: says where those come from.

Published packages ask for their siblings at exactly their own version. An index can't be asked for them on behalf of
somebody who installs a folder of a checkout (`pip install ./packages/pypto-lang`): it may know a stranger by the same
name. There the siblings are the folders beside this one, as direct references, unless SIMPLER_SIBLINGS=pinned says that
they are seen to, as the workspace's own commands do. A wheel that is built from an sdist keeps the sdist's pins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class SiblingPins(MetadataHookInterface):
    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill `dependencies` from the hook's `siblings` and `others`, `optional-dependencies` from its `extras`."""
        version = metadata["version"]
        if "dependencies" in metadata["dynamic"]:
            siblings = [self.requirement(name, version) for name in self.config["siblings"]]
            metadata["dependencies"] = [*siblings, *self.config["others"]]
        if "optional-dependencies" in metadata["dynamic"]:
            metadata["optional-dependencies"] = {
                extra: [self.requirement(name, version) for name in siblings]
                for extra, siblings in self.config["extras"].items()
            }

    def requirement(self, sibling: str, version: str) -> str:
        """How to ask for a sibling; raises ValueError for a word that SIMPLER_SIBLINGS doesn't know."""
        choice = os.environ.get("SIMPLER_SIBLINGS", "")
        if choice not in ("", "pinned"):
            raise ValueError(f"SIMPLER_SIBLINGS={choice}: expected 'pinned' or nothing")
        folder = Path(self.root).resolve().parent / sibling
        if choice == "pinned" or not (folder / "pyproject.toml").is_file():
            return f"{sibling}=={version}"
        # pips up to 24.2 keep for good what they built of a folder whose last part looks like NAME-VERSION, as each of
        # these names does to them, and install it again whatever the folder holds by then. "." does not.
        return f"{sibling} @ {folder.as_uri()}/."
