"""The effect protocol of services: what a service asks for while it runs, and who answers.

A service, as user or as provider, is a generator over an `Exchange`, a `Flow`. It does no I/O: it yields what it needs,
and a driver (of ``sync`` or ``aio``) sends the answer back in, or throws the error in at the same place.

=================  ====================================================================================================
yielded            what the driver does
=================  ====================================================================================================
None               writes all that is to be sent, waits for the peer, sends the next event of the exchange in
`POLL`             writes all that is to be sent, sends the next event in if one has come, else None
`Call`             runs other code (a handler, a progress function): ``aio`` awaits what it gives; sends its result in;
                   one in the background may go on in a thread, and None is sent in at once
anything else      is a result for the caller, who takes the next one when there is time; sends None in
=================  ====================================================================================================

What a flow returns is its final answer. Where the caller wants no more results the driver closes the flow: the
GeneratorExit is where a C-CANCEL is sent. An event that a flow did not ask for goes to ``Exchange.set_aside``.

Flows delegate to each other by ``yield from``. Everything that is not a service (pools, batches, the client framework)
is ordinary asyncio code, from which the blocking code is generated: see ``tools/async_to_sync.py``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from .message_exchange import POLL, Call, Poll

__all__ = ["POLL", "Call", "Flow", "Poll"]

T = TypeVar("T")

#: A service that ends with a T.
Flow: TypeAlias = Generator[Any, Any, T]
