"""Instances in another transfer syntax: nothing is lost without a rule, and with one the instance says so itself."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import peers
import pydicom
import pytest
from rig import Rig, instance

import dicomnet as dn
from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.dataset.codec import open_source
from dicomnet.dataset.transcoding import Lossy, converted
from dicomnet.errors import InvalidArgument, NoAcceptedContext
from dicomnet.protocol.negotiation import PresentationContext
from dicomnet.services.transfer_choice import fitting

EXPLICIT, IMPLICIT, BIG = (
    uids.EXPLICIT_VR_LITTLE_ENDIAN,
    uids.IMPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_BIG_ENDIAN,
)
LOSSLESS = [uids.RLE_LOSSLESS, uids.JPEG_LS_LOSSLESS, uids.JPEG2000_LOSSLESS]
RULES = [
    pytest.param(Lossy(uids.JPEG2000, ratio=6), "ISO_15444_1", id="JPEG 2000"),
    pytest.param(Lossy(uids.JPEG_LS_NEAR_LOSSLESS, error=3), "ISO_14495_1", id="JPEG-LS"),
]
IMAGES = ["MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "CT_small.dcm"]


@pytest.fixture(scope="module", autouse=True)
def codecs() -> None:
    """The extra "codecs"; where all peers are wanted, its absence is no reason to skip."""
    for module in ("openjpeg", "rle", "jpeg_ls"):
        if os.environ.get("DICOMNET_REQUIRE_PEERS"):
            __import__(module)
        else:
            pytest.importorskip(module)


def path_of(name: str) -> Any:
    return next(path for path in peers.sample_files() if path.name == name)


def dataset_of(source: Any) -> Any:
    return codec.decode(b"".join(bytes(chunk) for chunk in source.chunks(1 << 20)), source.transfer_syntax_uid)


def pixels_of(source: Any) -> Any:
    return dataset_of(source).pixel_array.astype(int)


def contexts(*syntaxes: str, sop_class: str = uids.MR_IMAGE_STORAGE) -> list[PresentationContext]:
    return [PresentationContext(2 * number + 1, sop_class, syntax, 0) for number, syntax in enumerate(syntaxes)]


# ---- without loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("name", IMAGES)
def test_compression_and_back_loses_nothing(name: str, syntax: str) -> None:
    original = open_source(path_of(name))
    packed = converted(original, syntax)
    assert packed.transfer_syntax_uid == syntax
    assert packed.sop_instance_uid == original.sop_instance_uid
    plain, again = converted(original, EXPLICIT), converted(packed, EXPLICIT)
    assert b"".join(again.chunks(1 << 20)) == b"".join(plain.chunks(1 << 20))
    assert "LossyImageCompression" not in dataset_of(packed)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_colours_and_frames_survive(syntax: str) -> None:
    for name in ("examples_rgb_color.dcm", "SC_rgb_rle_2frame.dcm"):
        original = open_source(path_of(name))
        assert np.array_equal(pixels_of(converted(original, syntax)), pixels_of(original))


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"])
@pytest.mark.parametrize("syntax", [*LOSSLESS, IMPLICIT, BIG])
def test_what_came_compressed_is_compressed_otherwise(name: str, syntax: str) -> None:
    original = open_source(path_of(name))
    other = converted(converted(original, syntax), EXPLICIT)
    assert np.array_equal(pixels_of(other), pydicom.dcmread(path_of(name)).pixel_array)


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "JPEGLSNearLossless_16.dcm"])
def test_what_was_compressed_with_loss_loses_no_more(name: str) -> None:
    original = open_source(path_of(name))
    plain = converted(original, EXPLICIT)
    assert plain.sop_instance_uid == original.sop_instance_uid
    assert np.array_equal(pixels_of(plain), pixels_of(original))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", uids.JPEG2000, uids.JPEG_LS_NEAR_LOSSLESS, "1.2.3"])
def test_nothing_is_lost_without_a_rule(syntax: str) -> None:
    with pytest.raises(InvalidArgument, match="without loss"):
        converted(open_source(path_of("MR_small.dcm")), syntax)


# ---- with loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "method"), RULES)
@pytest.mark.parametrize("name", IMAGES)
def test_a_rule_makes_a_new_instance_that_says_what_was_done(name: str, rule: Lossy, method: str) -> None:
    original = open_source(path_of(name))
    before = dataset_of(original)
    packed = converted(original, rule)
    dataset = dataset_of(packed)
    assert packed.transfer_syntax_uid == rule.transfer_syntax
    assert uids.is_valid(packed.sop_instance_uid)
    assert dataset.SOPInstanceUID == packed.sop_instance_uid != original.sop_instance_uid
    assert dataset.LossyImageCompression == "01"
    assert dataset.LossyImageCompressionMethod == method
    size = before.Rows * before.Columns * 2
    assert float(dataset.LossyImageCompressionRatio) == pytest.approx(size / len(dataset.PixelData), rel=0.01)
    assert dataset.ImageType[0] == "DERIVED"
    assert list(dataset.ImageType)[1:] == list(before.ImageType)[1:]
    assert "Lossy compression: JPEG" in dataset.DerivationDescription
    assert dataset.DerivationCodeSequence[0].CodeValue == "113040"
    assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == original.sop_instance_uid
    assert dataset.StudyInstanceUID == before.StudyInstanceUID
    off = np.abs(pixels_of(packed) - pixels_of(original)).max()
    assert 0 < off < (4 if rule.error else 400)


@pytest.mark.parametrize(("rule", "method"), RULES)
def test_an_earlier_loss_is_not_forgotten(rule: Lossy, method: str) -> None:
    """Ratios and methods are lists, in the order in which they were applied (PS3.3 Section C.7.6.1.1.5.2)."""
    dataset = pydicom.dcmread(path_of("MR_small.dcm"))
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = 8
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.DerivationDescription = "Averaged"
    del dataset.ImageType
    after = dataset_of(converted(codec.source_of(dataset), rule))
    assert list(after.LossyImageCompressionMethod) == ["ISO_10918_1", method]
    assert [float(ratio) > 2 for ratio in after.LossyImageCompressionRatio] == [True, True]
    assert after.DerivationDescription.startswith("Averaged; Lossy compression")
    assert after.ImageType[0] == "DERIVED"


@pytest.mark.parametrize(
    ("syntax", "options"),
    [
        (uids.JPEG2000, {}),
        (uids.JPEG2000, {"ratio": 1}),
        (uids.JPEG2000, {"error": 2}),
        (uids.JPEG_LS_NEAR_LOSSLESS, {}),
        (uids.JPEG_LS_NEAR_LOSSLESS, {"error": 256}),
        (uids.JPEG_LS_NEAR_LOSSLESS, {"error": 1.5}),
        (uids.JPEG_LS_NEAR_LOSSLESS, {"ratio": 10}),
        (uids.JPEG2000_LOSSLESS, {"ratio": 10}),
        ("1.2.840.10008.1.2.4.50", {"ratio": 10}),
    ],
)
def test_a_rule_that_cannot_be_followed_is_none(syntax: str, options: Any) -> None:
    with pytest.raises(InvalidArgument):
        Lossy(syntax, **options)


def test_a_report_has_no_pixels_to_compress() -> None:
    with pytest.raises(InvalidArgument, match="no pixel data"):
        converted(open_source(path_of("test-SR.dcm")), Lossy(uids.JPEG2000, ratio=5))


def test_what_has_no_pixels_is_compressed_as_it_is() -> None:
    report = open_source(path_of("test-SR.dcm"))
    there = converted(report, uids.RLE_LOSSLESS)
    assert there.transfer_syntax_uid == uids.RLE_LOSSLESS
    assert dataset_of(there) == dataset_of(report)


def test_pixels_of_one_bit_stay_as_they_are() -> None:
    dataset = instance(Rows=8, Columns=8, BitsAllocated=1, BitsStored=1, HighBit=0, SamplesPerPixel=1, pixels=8)
    with pytest.raises(InvalidArgument, match="pixels of one bit are not compressed"):
        converted(open_source(dataset), uids.RLE_LOSSLESS)


def test_a_table_of_long_offsets_is_used_and_goes() -> None:
    dataset = pydicom.dcmread(path_of("MR_small_RLE.dcm"))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = (
        pydicom.encaps.encapsulate_extended([frame])
    )
    dataset["PixelData"].VR = "OB"
    there = dataset_of(converted(open_source(dataset), EXPLICIT))
    assert "ExtendedOffsetTable" not in there
    assert np.array_equal(there.pixel_array, pydicom.dcmread(path_of("MR_small_RLE.dcm")).pixel_array)


# ---- the policy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "accepted", "used"),
    [
        ("never", [EXPLICIT, uids.JPEG2000_LOSSLESS], EXPLICIT),
        ("never", [IMPLICIT], IMPLICIT),
        ("if needed", [uids.JPEG2000_LOSSLESS, EXPLICIT], EXPLICIT),
        ("if needed", [uids.JPEG2000_LOSSLESS, IMPLICIT], IMPLICIT),
        ("if needed", [uids.JPEG2000, uids.JPEG2000_LOSSLESS], uids.JPEG2000_LOSSLESS),
        ("if needed", [uids.HTJ2K_LOSSLESS, uids.RLE_LOSSLESS], uids.RLE_LOSSLESS),  # nobody compresses HTJ2K
        ("if needed", [uids.JPEG2000], None),
        ([uids.JPEG_LS_LOSSLESS, IMPLICIT], [EXPLICIT, IMPLICIT, uids.JPEG_LS_LOSSLESS], uids.JPEG_LS_LOSSLESS),
        ([uids.JPEG_LS_LOSSLESS, IMPLICIT], [EXPLICIT, IMPLICIT], IMPLICIT),
        ([uids.JPEG_LS_LOSSLESS], [EXPLICIT], EXPLICIT),
        ([uids.JPEG2000], [EXPLICIT, uids.JPEG2000], EXPLICIT),
        ([Lossy(uids.JPEG2000, ratio=5), IMPLICIT], [IMPLICIT, uids.JPEG2000], uids.JPEG2000),
        (Lossy(uids.JPEG2000, ratio=5), [EXPLICIT, uids.JPEG2000], uids.JPEG2000),
        (Lossy(uids.JPEG2000, ratio=5), [IMPLICIT], IMPLICIT),
    ],
)
def test_the_policy_chooses(policy: Any, accepted: list[str], used: str | None) -> None:
    source = open_source(path_of("MR_small.dcm"))
    if used is None:
        with pytest.raises(NoAcceptedContext):
            fitting(source, contexts(*accepted), policy)
        return
    context, sent = fitting(source, contexts(*accepted), policy)
    assert context.transfer_syntax == sent.transfer_syntax_uid == used
    assert (sent.sop_instance_uid != source.sop_instance_uid) == (used == uids.JPEG2000)


def test_what_cannot_be_compressed_goes_as_it_is() -> None:
    """In one list with the images that can be: a report."""
    source = open_source(path_of("test-SR.dcm"))
    accepted = contexts(uids.JPEG2000, source.transfer_syntax_uid, sop_class=source.sop_class_uid)
    context, sent = fitting(source, accepted, [Lossy(uids.JPEG2000, ratio=5)])
    assert (context.transfer_syntax, sent) == (source.transfer_syntax_uid, source)
    with pytest.raises(InvalidArgument, match="no pixel data"):
        fitting(source, accepted[:1], [Lossy(uids.JPEG2000, ratio=5)])


def test_what_is_compressed_already_is_not_compressed_again() -> None:
    source = open_source(path_of("JPEG2000.dcm"))
    accepted = contexts(EXPLICIT, uids.JPEG2000, sop_class=source.sop_class_uid)
    assert fitting(source, accepted, [Lossy(uids.JPEG2000, ratio=50), EXPLICIT])[1] is source
    assert fitting(source, accepted, [uids.JPEG2000, EXPLICIT])[1] is source


@pytest.mark.parametrize("pairing", ["sync-sync", "aio-aio"])
def test_a_policy_for_each_call(pairing: str) -> None:
    """Over the wire: what was stored is what the result says."""
    rig = Rig(pairing)
    listener, stored = rig.listener(), []
    listener.on_store()(lambda request: stored.append(request.dataset))
    path = path_of("MR_small.dcm")
    policies: list[Any] = ["never", [uids.JPEG2000_LOSSLESS], [uids.RLE_LOSSLESS], *(rule.values[0] for rule in RULES)]
    wanted = [EXPLICIT, uids.JPEG2000_LOSSLESS, uids.RLE_LOSSLESS, uids.JPEG2000, uids.JPEG_LS_NEAR_LOSSLESS]
    proposed = dn.contexts.for_files([path], also=wanted)
    assert len(proposed) == 7  # implicit VR and verification, too
    with rig.pair(listener, proposed) as association:
        results = [association.store(path, transcode=policy) for policy in policies]
        with pytest.raises(InvalidArgument, match="no way of converting"):
            association.store(path, transcode="sometimes")
    rig.close()
    assert [result.transfer_syntax_uid for result in results] == wanted
    assert [dataset.file_meta.TransferSyntaxUID for dataset in stored] == wanted
    assert [dataset.SOPInstanceUID for dataset in stored] == [result.sop_instance_uid for result in results]
    assert [dataset.get("LossyImageCompression") for dataset in stored] == [None, None, None, "01", "01"]
    original = pydicom.dcmread(path).pixel_array
    assert [np.array_equal(dataset.pixel_array, original) for dataset in stored] == [True, True, True, False, False]


def test_a_policy_for_each_provider() -> None:
    """What a C-GET and a C-MOVE send is converted as the listener says."""
    rig = Rig("sync-sync")
    there, moved, got = rig.listener("THERE"), [], []
    there.on_store()(lambda request: moved.append(request.transfer_syntax_uid))
    with rig.serving(there) as peer:
        listener = rig.listener(destinations={"THERE": dn.Entity.parse(peer)})
        listener.transcode = [uids.JPEG2000_LOSSLESS]
        listener.on_get("STUDY_ROOT")(lambda _: [path_of("MR_small.dcm")])
        listener.on_move("STUDY_ROOT")(lambda _: [path_of("MR_small.dcm")])
        proposed = dn.contexts.query_retrieve([uids.MR_IMAGE_STORAGE], [uids.JPEG2000_LOSSLESS])
        with rig.pair(listener, proposed) as association:
            keep = {"to": lambda request: got.append(request.transfer_syntax_uid)}
            assert association.get("STUDY", StudyInstanceUID="1.2", **keep).completed == 1
            assert association.move("STUDY", StudyInstanceUID="1.2", destination="THERE").completed == 1
    assert got == moved == [uids.JPEG2000_LOSSLESS]


def test_a_policy_for_each_peer() -> None:
    """As user for who is called; as provider for who asks, and for the destination of a move."""
    wanted = [uids.JPEG2000_LOSSLESS]
    rig = Rig("sync-sync")
    there, got = rig.listener("THERE"), []
    there.on_store()(lambda request: got.append(("THERE", request.transfer_syntax_uid)))
    with rig.serving(there) as peer:
        entity = dn.Entity.parse(peer)
        path = path_of("MR_small.dcm")
        contexts = dn.contexts.for_files([path], also=wanted)
        with dn.connect(dn.Peer(entity, transcode=wanted), contexts=contexts) as association:
            assert association.store(path).transfer_syntax_uid == uids.JPEG2000_LOSSLESS
            assert association.store(path, transcode="never").transfer_syntax_uid == EXPLICIT
        sometimes = dn.connect(dn.Peer(entity, transcode="sometimes"), contexts=contexts)
        with sometimes, pytest.raises(InvalidArgument, match="no way of converting"):
            sometimes.store(path)
        listener = rig.listener(
            destinations={"THERE": entity},
            peers=[dn.Peer(entity, transcode=wanted), dn.Peer(dn.Entity("ASKER", "localhost", 1), transcode=wanted)],
        )
        listener.on_get("STUDY_ROOT")(lambda _: [path])
        listener.on_move("STUDY_ROOT")(lambda _: [path])
        proposed = dn.contexts.query_retrieve([uids.MR_IMAGE_STORAGE], [EXPLICIT])
        proposed += dn.contexts.query_retrieve([uids.MR_IMAGE_STORAGE], wanted)[-1:]
        with rig.serving(listener) as archive:
            for calling in ("ASKER", "OTHER"):
                with rig.connected(archive, proposed, calling=calling) as association:
                    taken = {"to": lambda request, who=calling: got.append((who, request.transfer_syntax_uid))}
                    assert association.get("STUDY", StudyInstanceUID="1.2", **taken).completed == 1
            with rig.connected(archive, proposed) as association:
                assert association.move("STUDY", StudyInstanceUID="1.2", destination="THERE").completed == 1
    packed = uids.JPEG2000_LOSSLESS
    assert got == [("THERE", packed), ("THERE", EXPLICIT), ("ASKER", packed), ("OTHER", EXPLICIT), ("THERE", packed)]
