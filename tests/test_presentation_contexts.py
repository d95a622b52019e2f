"""From what is to be done to presentation contexts: which, in which order, and over how many associations."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rig import instance

import dicomnet as dn
from dicomnet import uids
from dicomnet.protocol.negotiation import MAX_CONTEXTS, ProposedContext
from dicomnet.services import presentation_contexts, query_models

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE


def made(number: int, sop_class: str = CT, syntax: str = EXPLICIT) -> Any:
    dataset = instance(number, sop_class=sop_class, pixels=8)
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def pairs(contexts: list[ProposedContext]) -> list[tuple[str, tuple[str, ...]]]:
    return [(context.abstract_syntax, context.transfer_syntaxes) for context in contexts]


def test_files_ask_for_what_they_are(tmp_path: Any) -> None:
    kinds = [(CT, EXPLICIT), (MR, IMPLICIT), (CT, EXPLICIT), (CT, IMPLICIT)]
    paths = [tmp_path / f"{number}.dcm" for number in range(len(kinds))]
    for number, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
        made(number, *kind).save_as(path, enforce_file_format=True)
    (tmp_path / "none.dcm").write_bytes(b"no DICOM")
    contexts = presentation_contexts.for_files([*paths, tmp_path / "none.dcm", tmp_path / "missing.dcm"])
    assert pairs(contexts) == [
        (CT, (EXPLICIT,)),
        (MR, (IMPLICIT,)),
        (CT, (IMPLICIT,)),
        (MR, (EXPLICIT,)),  # what is not compressed can be converted, where the peer takes nothing else
        *pairs(presentation_contexts.verification()),
    ]
    more = presentation_contexts.for_files(paths[:2], also=[uids.JPEG2000_LOSSLESS, EXPLICIT])
    assert pairs(more)[2:5] == [(CT, (uids.JPEG2000_LOSSLESS,)), (MR, (uids.JPEG2000_LOSSLESS,)), (MR, (EXPLICIT,))]


def test_instances_are_planned_in_as_few_associations_as_can_be() -> None:
    kinds = [(sop_class, syntax) for sop_class in sorted(uids.STORAGE_CLASSES)[:65] for syntax in (EXPLICIT, IMPLICIT)]
    instances = [made(number, *kinds[number % len(kinds)]) for number in range(300)]
    random.Random(4).shuffle(instances)
    planned = presentation_contexts.batches(instances)
    assert [len(batch.contexts) for batch in planned] == [128, 2]
    assert sorted(one.SOPInstanceUID for batch in planned for one in batch.instances) == sorted(
        one.SOPInstanceUID for one in instances
    )
    for batch in planned:
        offered = set(pairs(batch.contexts))
        for one in batch.instances:
            assert (one.SOPClassUID, (one.file_meta.TransferSyntaxUID,)) in offered


def test_what_may_be_converted_is_also_proposed_otherwise_where_there_is_room() -> None:
    [batch] = presentation_contexts.batches([made(1), made(2, MR)], also=[uids.RLE_LOSSLESS, EXPLICIT], fallback=True)
    assert pairs(batch.contexts) == [
        (CT, (EXPLICIT,)),
        (MR, (EXPLICIT,)),
        (CT, (uids.RLE_LOSSLESS,)),
        (MR, (uids.RLE_LOSSLESS,)),
        (CT, presentation_contexts.UNCOMPRESSED),
        (MR, presentation_contexts.UNCOMPRESSED),
    ]
    many = [made(number, sop_class) for number, sop_class in enumerate(sorted(uids.STORAGE_CLASSES)[:120])]
    [batch] = presentation_contexts.batches(many, fallback=True)
    assert len(batch.contexts) == MAX_CONTEXTS


def test_what_cannot_be_read_is_found_out_by_who_sends_it(tmp_path: Any) -> None:
    [batch] = presentation_contexts.batches([tmp_path / "missing.dcm", made(1)])
    assert len(batch.instances) == 2
    assert presentation_contexts.batches([tmp_path / "missing.dcm"]) == []


@pytest.mark.parametrize("number", [0, 1, 128, 129, 256, 300])
def test_lots_of_128(number: int) -> None:
    contexts = presentation_contexts.sop_classes(*(f"1.2.{one}" for one in range(number)))
    lots = presentation_contexts.split(contexts)
    assert [one for lot in lots for one in lot] == contexts
    assert len(lots) == -(-number // 128)
    assert all(1 <= len(lot) <= 128 for lot in lots)


def test_a_query_asks_for_its_models_and_a_get_for_what_it_brings() -> None:
    contexts = dn.contexts.query_retrieve()
    assert len(contexts) == MAX_CONTEXTS
    asked = {context.abstract_syntax for context in contexts if context.scu}
    models = [query_models.MODELS[name] for name in ("STUDY_ROOT", "PATIENT_ROOT")]
    assert asked == {uid for model in models for uid in (model.find, model.get, model.move)}
    brought = [context for context in contexts if not context.scu]
    assert all(context.scp and context.abstract_syntax in uids.STORAGE_CLASSES for context in brought)
    assert {CT, MR, uids.SECONDARY_CAPTURE_IMAGE_STORAGE} <= {context.abstract_syntax for context in brought}
    [only] = dn.contexts.query_retrieve([CT], [uids.RLE_LOSSLESS])[6:]
    assert (only.abstract_syntax, only.transfer_syntaxes, only.scu, only.scp) == (CT, (uids.RLE_LOSSLESS,), False, True)


def test_transfer_syntaxes_keep_their_order() -> None:
    [context] = dn.contexts.storage([CT, CT], [uids.RLE_LOSSLESS, IMPLICIT, EXPLICIT])
    assert context.transfer_syntaxes == (uids.RLE_LOSSLESS, IMPLICIT, EXPLICIT)


def test_instances_share_an_association_up_to_128_contexts():
    pairs = [(f"2.25.{number}", EXPLICIT) for number in range(200)]
    planned = presentation_contexts.store_batches([(number, pair) for number, pair in enumerate(pairs)] * 2, "never")
    assert [len(one.contexts) for one in planned] == [128, 128, 128, 16]  # each in two transfer syntaxes
    assert sorted(item for one in planned for item in one.instances) == sorted([*range(200), *range(200)])
    (one,) = presentation_contexts.store_batches([("a", (CT, EXPLICIT)), ("b", (MR, EXPLICIT))], [uids.RLE_LOSSLESS])
    assert len(one.contexts) == 6
