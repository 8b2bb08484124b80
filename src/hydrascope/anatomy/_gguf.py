"""Reads GGUF files, the format of llama.cpp, through transformers, which turns their weights into plain numbers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

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
    elif Path(file).is_file():
        raise ModelError(
            f"'{file}' is both a file here and asked of '{name}', and the library would take the one here; write "
            f"hydrascope run {file}, or go to another folder"
        )
    if missing := [library for library in ("gguf", "accelerate") if find_spec(library) is None]:
        raise ModelError(
            f"'{file}' is a GGUF file, which {' and '.join(missing)} reads, and which is not installed; "
            "run pip install 'hydrascope[gguf]'"
        )


def unread_tensors(network: Any, where: str, file: str) -> tuple[str, ...]:
    """Names of tensors in a GGUF file that transformers passed over, of which it says nothing itself.

    Args:
        network: the model that was read from the file.
        where: folder or hub id of the file.
        file: name of the file.

    Returns:
        Nothing if the file holds as many numbers as the model.
    """
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    path = Path(where) / file if Path(where).is_dir() else cached_file(where, file)
    reader = GGUFReader(path)
    held = sum(int(tensor.n_elements) for tensor in reader.tensors)
    if held <= sum(parameter.numel() for parameter in network.parameters()):
        return ()
    kind = TENSOR_PROCESSORS.get(reader.fields["general.architecture"].contents(), TensorProcessor)
    places = get_gguf_hf_weights_map(network, kind(config=network.config.to_dict()))
    return tuple(sorted(tensor.name for tensor in reader.tensors if tensor.name not in places))
