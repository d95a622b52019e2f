"""Print jobs that wait, as files: what a printer was told to print is printed, also after a restart."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from typing import Any

import numpy as np

from ....services.film import Layout
from .density import Tone
from .drawing import Content, FilmPlan

__all__ = ["packed", "unpacked"]


def packed(values: dict[str, Any], films: Any) -> bytes:
    """A job as the bytes of a file: its values, its films, and their pixels without loss."""
    arrays: dict[str, Any] = {}

    def kept(array: Any) -> str:
        """The name of an array; one that several films share is kept once."""
        name = f"a{id(array):x}"
        arrays[name] = array
        return name

    told = {"job": values, "films": [_described(film, kept) for film in films]}
    buffer = io.BytesIO()
    np.savez(buffer, plan=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)
    return buffer.getvalue()


def _described(film: FilmPlan, kept: Any) -> dict[str, Any]:
    said = {one.name: getattr(film, one.name) for one in fields(FilmPlan)}
    tone, contents = film.tone, film.contents
    said["layout"] = film.layout.text
    said["tone"] = {one.name: getattr(tone, one.name) for one in fields(Tone)}
    said["tone"]["table"] = None if tone.table is None else kept(tone.table)
    said["contents"] = {
        position: {one.name: getattr(content, one.name) for one in fields(Content)} | {"pixels": kept(content.pixels)}
        for position, content in contents.items()
    }
    return said


def unpacked(data: bytes) -> tuple[dict[str, Any], list[FilmPlan]]:
    """The values and the films of a job.

    Raises:
        ValueError, KeyError, OSError: it is none.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        told = json.loads(bytes(file["plan"]))
        arrays = {name: file[name] for name in file.files if name != "plan"}
    return told["job"], [_film(one, arrays) for one in told["films"]]


def _film(said: dict[str, Any], arrays: dict[str, Any]) -> FilmPlan:
    table = said["tone"]["table"]
    contents = {
        int(position): Content(**(one | {"pixels": arrays[one["pixels"]]}))
        for position, one in said["contents"].items()
    }
    made = {
        "layout": Layout.parse(said["layout"]),
        "tone": Tone(**(said["tone"] | {"table": None if table is None else arrays[table]})),
        "contents": contents,
        "annotations": tuple(said["annotations"]),
    }
    return FilmPlan(**(said | made))
