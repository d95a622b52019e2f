"""Commands against crafted archives and hostile providers: a sample; `make hostile` tries thousands."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

import faces
import pytest
from fuzz import hostile

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import AssociateRQ, MaximumLength, PresentationContextRQ
from dicomnet.protocol.messages import CommandField
from dicomnet.wire.command_set import Command, frame


def test_s13_crafted_archives_end_in_a_documented_exit_code() -> None:
    assert set(hostile.archives(150, seed=1)) <= hostile.CODES


def test_point_5_hostile_providers_end_in_a_documented_exit_code() -> None:
    assert set(hostile.providers(24, seed=1)) <= hostile.CODES
    assert hostile.provider_failures == []


@pytest.mark.long
@pytest.mark.deadline(600)
def test_point_5_crafted_archives_by_the_thousand() -> None:
    assert hostile.archives(13_000, seed=1_000_000).total() == 13_000


@pytest.mark.long
@pytest.mark.deadline(900)
def test_point_5_hostile_providers_by_the_hundred() -> None:
    assert hostile.providers(1_000, seed=1_000_000).total() == 1_000
    assert hostile.provider_failures == []


@pytest.mark.parametrize("face", faces.FACES)
def test_s9_a_hundred_unfinished_identifiers_stay_within_the_budget(face: str) -> None:
    """Each could have 2 MiB, together they have 16: what goes past that is refused, and a good peer is served."""
    budget, each, most = 16 << 20, 1 << 20, 0
    model = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
    asked = Command(
        affected_sop_class_uid=model, command_field=CommandField.C_FIND_RQ, message_id=1, priority=0,
        command_data_set_type=1,
    )  # fmt: skip
    piece = b"".join(map(bytes, frame(1, bytes(each), 16378, False, False)))  # and no last fragment
    contexts = (PresentationContextRQ(1, model, (uids.EXPLICIT_VR_LITTLE_ENDIAN,)),)
    request = AssociateRQ("ANY-SCP", "RAW", contexts, (MaximumLength(16384),))
    limits = dn.Limits(memory=budget, associations=200)
    with faces.provider(face, lambda one: one.on_find("STUDY_ROOT")(lambda _: []), limits=limits) as serving:
        users = []
        for _ in range(100):
            user = serving.raw()
            users.append(user)
            user.send(request)
            user.read()
            with suppress(OSError):
                user.send(faces.message(1, asked), piece)
            most = max(most, serving.listener.memory.held)
        association = dn.connect(serving.peer(), contexts=dn.contexts.verification())
        began = monotonic()
        assert association.echo().is_success
        assert monotonic() - began < 0.5 * faces.PATIENCE
        association.release()
        most = max(most, serving.listener.memory.held)
        for user in users:
            user.sock.close()
    assert budget // 4 < most <= budget
