"""Messages of the admin interface: the classic ones of PACS server frameworks, and those of add-ins.

A message is a name and an object of data; the answer is another object, or an error. ``POST /v1/messages`` takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import InvalidArgument
from .ae_titles import NotKnown
from .settings import Role

__all__ = ["AdminMessage", "MessageRegistry"]

Answer = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class AdminMessage:
    """A message that is known.

    Attributes:
        name: as it is sent.
        function: called with its data: as an instance of ``model``, or a mapping where there is none.
        role: what a caller must be allowed to do.
        model: of its data.
        owner: the add-in; empty for the server's own.
    """

    name: str
    function: Callable[[Any], Answer]
    role: Role = "operate"
    model: type[BaseModel] | None = None
    owner: str = ""

    def answer(self, data: Mapping[str, Any]) -> Answer:
        """Call the function.

        Raises:
            InvalidArgument: the data do not fit.
        """
        if self.model is None:
            return self.function(data)
        try:
            given = self.model.model_validate(dict(data))
        except ValidationError as error:
            wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
            raise InvalidArgument(f"the data of {self.name} do not fit: {'; '.join(wrong)}") from error
        return self.function(given)


class MessageRegistry:
    """The messages that are known, by name."""

    def __init__(self) -> None:
        self._messages: dict[str, AdminMessage] = {}
        self.owner = ""

    def add(
        self,
        name: str,
        function: Callable[[Any], Answer],
        *,
        role: Role = "operate",
        model: type[BaseModel] | None = None,
    ) -> None:
        """Have a function called with the data of a message.

        Raises:
            ValueError: another one takes messages of this name.
        """
        known = self._messages.get(name)
        if known is not None:
            raise ValueError(f"the message {name} is taken by {known.owner or 'the server itself'} already")
        self._messages[name] = AdminMessage(name, function, role, model, self.owner)

    def get(self, name: str) -> AdminMessage:
        """The message of a name.

        Raises:
            NotKnown: there is none.
        """
        try:
            return self._messages[name]
        except KeyError as error:
            near = get_close_matches(name, self._messages, n=1)
            hint = f"Is it {near[0]}?" if near else "GET /v1/messages lists them."
            raise NotKnown(f'there is no message "{name[:64]}"', hint=hint) from error

    def withdraw(self, owner: str) -> None:
        """Forget the messages of an add-in."""
        self._messages = {name: one for name, one in self._messages.items() if one.owner != owner}

    def __iter__(self) -> Iterator[AdminMessage]:
        return iter(tuple(self._messages.values()))
