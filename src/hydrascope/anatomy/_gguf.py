"""Reads GGUF files, the format of llama.cpp, through transformers, which turns their weights into plain numbers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from hydrascope.errors import ModelError, UnknownModel

GGUF = ".gguf"
"""How the name of such a file ends."""


def require_gguf(name: str, folder: Path | None, file: str) -> None:
    """Refuse a file that is not there, or that nothing here can read.

    Args:
        name: the model as the user wrote it.
        folder: folder of the file; None where it is on the hub.
        file: name of the file.

    Raises:
        UnknownModel: the folder has no such file.
        ModelError: it is no GGUF file, or the libraries that read it are not installed.
    """
    if folder is not None:
        path = folder / file
        if not path.is_file():
            found = ", ".join(sorted(one.name for one in folder.glob(f"*{GGUF}"))) or "none"
            raise UnknownModel(f"'{name}' has no file '{file}'; its GGUF files are: {found}")
        with path.open("rb") as opened:
            if opened.read(4) != b"GGUF":
                raise ModelError(f"'{path}' is no GGUF file: it does not begin with the letters GGUF")
    if missing := [library for library in ("gguf", "accelerate") if find_spec(library) is None]:
        raise ModelError(
            f"'{file}' is a GGUF file, which {' and '.join(missing)} reads, and which is not installed; "
            "run pip install 'hydrascope[gguf]'"
        )
