"""The error tree: what is caught by what, what it says, and that it survives a pickle."""

import copy
import errno
import pickle
import socket

import pytest
from cases import every

from dicomnet import errors
from dicomnet.status import Status

PEER = "ARCHIVE@pacs:104"

EXAMPLES = [
    errors.DicomNetError("something", peer=PEER, hint="Try again."),
    errors.LocalProtocolError("send before the association is established"),
    errors.InvalidArgument("AE title too long"),
    errors.RemoteProtocolError("no"),
    errors.MalformedPDU("item overruns its PDU", reason=6, pdu_type=1, offset=74, peer=PEER),
    errors.AssociationError("no association"),
    errors.AssociationRejected(1, 1, 7, peer=PEER, calling="WS1"),
    errors.AssociationAborted(2, 2, peer=PEER),
    errors.NoAcceptedContext("1.2.840.10008.1.1", ("1.2.840.10008.1.2",), peer=PEER),
    errors.ServiceFailure(Status(0xA700, "C-STORE", comment="disk full"), peer=PEER),
    errors.ConnectionFailed("connection refused", errno=111, peer=PEER),
    errors.CannotListen("cannot listen on 0.0.0.0:104: Permission denied", errno=13),
    errors.TLSFailed("the peer speaks no TLS on this port", peer=PEER),
    errors.DeadlineExceeded("response", 60.0, peer=PEER),
    errors.InputFileError("not a DICOM file", problem=errors.InputProblem.NOT_PART10, path="x.dcm"),
    errors.OutputFileError("disk full", path="y.dcm", errno=28),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_every_error_is_a_dicomnet_error_of_one_line(error):
    assert isinstance(error, errors.DicomNetError)
    assert "\n" not in str(error)
    assert error.message in str(error)


@every("error", EXAMPLES)
@every("duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_keeps_type_sentence_and_facts(error, duplicate):
    again = duplicate(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert getattr(again, "errno", None) == getattr(error, "errno", None)


def test_every_class_of_the_module_has_an_example():
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.DicomNetError)}
    assert {c for c in classes if not c.__name__.startswith("_")} == {type(e) for e in EXAMPLES}


@pytest.mark.parametrize(
    ("error", "standard"),
    [
        (errors.InvalidArgument("x"), ValueError),
        (errors.ConnectionFailed("x", errno=104), OSError),
        (errors.DeadlineExceeded("connect", 10), TimeoutError),
        (errors.InputFileError("x", problem=errors.InputProblem.CANNOT_READ), OSError),
        (errors.OutputFileError("x"), OSError),
    ],
)
def test_errors_are_caught_by_the_standard_library_s_names_too(error, standard):
    with pytest.raises(standard):
        raise error


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        (errors.MalformedPDU, errors.RemoteProtocolError),
        (errors.AssociationRejected, errors.AssociationError),
        (errors.AssociationAborted, errors.AssociationError),
        (errors.NoAcceptedContext, errors.AssociationError),
    ],
)
def test_the_tree(child, parent):
    assert issubclass(child, parent)


def test_a_rejection_says_who_why_and_what_to_try():
    assert str(errors.AssociationRejected(1, 1, 7, peer=PEER)) == (
        "ARCHIVE@pacs:104 rejected the association (permanent, by the acceptor): called AE title not recognised. "
        'Is "ARCHIVE" the peer\'s AE title?'
    )


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ((1, 1, 1), "no reason given"),
        ((1, 1, 2), "application context name not supported"),
        ((1, 1, 3), "calling AE title not recognised"),
        ((1, 2, 2), "(permanent, by the acceptor's protocol layer): protocol version not supported"),
        ((2, 3, 1), "(transient, by the acceptor's presentation layer): temporary congestion"),
        ((2, 3, 2), "local limit exceeded"),
        ((9, 8, 7), "(result 9, by the source 8): reason 7"),
    ],
)
def test_a_rejection_speaks_the_standard_s_words(codes, words):
    error = errors.AssociationRejected(*codes)
    assert words in str(error)
    assert str(error).startswith("the peer rejected the association")
    assert (error.result, error.source, error.reason) == codes


def test_a_rejected_caller_is_named_in_the_hint():
    assert 'Does the peer know "WS1"?' in str(errors.AssociationRejected(1, 1, 3, calling="WS1"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.AssociationAborted(0, 0), "the peer aborted the association (by its application)"),
        (
            errors.AssociationAborted(2, 6, peer=PEER),
            "ARCHIVE@pacs:104: the peer aborted the association (by its protocol layer: invalid PDU parameter value)",
        ),
        (errors.AssociationAborted(0, 0, by_peer=False), "this side aborted the association (by its application)"),
        (errors.AssociationAborted(2, 0, message="the connection was lost"), "the connection was lost"),
    ],
)
def test_an_abort_says_whose_it_was(error, sentence):
    assert str(error) == sentence


def test_a_missing_context_is_named_in_words():
    error = errors.NoAcceptedContext("1.2.840.10008.5.1.4.1.1.2", ["1.2.840.10008.1.2", "1.2.3"], peer=PEER)
    assert str(error) == (
        "ARCHIVE@pacs:104: no accepted presentation context for CT Image Storage in Implicit VR Little Endian or 1.2.3"
    )
    assert (error.abstract_syntax, error.transfer_syntaxes[1]) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    assert str(errors.NoAcceptedContext("1.2.3", message="none")) == "none"


def test_a_service_failure_carries_and_shows_the_status():
    error = errors.ServiceFailure(Status(0xA700, "C-STORE"))
    assert error.status == 0xA700
    assert "0xA700 (failure: Refused: Out of resources)" in str(error)


def test_a_deadline_names_itself():
    error = errors.DeadlineExceeded("response", 60.0, peer=PEER)
    assert str(error).startswith("ARCHIVE@pacs:104: response time-out after 60 s. ")
    assert (error.timeout, error.seconds) == ("response", 60.0)


@pytest.mark.parametrize("timeout", ["connect", "tls", "associate", "response", "progress", "release", "write"])
def test_a_silent_peer_comes_with_what_to_try(timeout):
    error = errors.DeadlineExceeded(timeout, 60.0)
    assert error.hint
    assert str(error).endswith(error.hint)
    assert errors.DeadlineExceeded(timeout, 60.0, hint="Ask Jane.").hint == "Ask Jane."


def test_a_file_error_names_its_path(tmp_path):
    error = errors.InputFileError("the file ends early", problem=errors.InputProblem.TRUNCATED, path=tmp_path / "a")
    assert str(error) == f"{tmp_path / 'a'}: the file ends early"
    assert error.path == str(tmp_path / "a")
    assert int(error.problem) == 22


STEERING = [*range(0x20), 0x7F, 0x85, 0x9B, 0x2028, 0x2029, 0x200E, 0x202A, 0x202E, 0x2066, 0x2069]


@every("code", STEERING)
def test_nothing_a_peer_sends_can_steer_a_terminal(code):
    shown = str(errors.DicomNetError(f"before{chr(code)}after"))
    assert chr(code) not in shown
    assert shown.isprintable()
    assert shown.startswith("before\\")
    assert shown.endswith("after")


def test_ordinary_text_is_shown_as_it_is():
    assert errors.escaped("Müller^Jürgen 山田 C:\\dir") == "Müller^Jürgen 山田 C:\\dir"


def test_errno_may_be_missing():
    assert errors.ConnectionFailed("x").errno is None


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Is the program running"),
        (socket.gaierror(-2, "Name or service not known"), "Is the name spelt right"),
    ],
)
def test_why_one_cannot_connect_comes_with_what_to_try(error, hint):
    made = errors.cannot_connect(error, PEER)
    assert str(made).startswith(f"{PEER}: cannot connect: {error.strerror}. {hint}")
    assert (made.errno, made.peer) == (error.errno, PEER)


def test_why_one_cannot_listen_names_the_address_once_and_what_to_try():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use") as caught:
            socket.create_server(("127.0.0.1", port))
    made = errors.cannot_listen(caught.value, "localhost", port)
    assert str(made).count(str(port)) == 1
    assert made.hint == "Another program has that port: stop it, or take another port; 0 is any that is free."
    assert made.errno == errno.EADDRINUSE


@pytest.mark.parametrize(("result", "later"), [(1, False), (2, True), (3, False)])
def test_a_transient_rejection_may_pass(result, later):
    assert errors.AssociationRejected(result, 3, 1).is_transient is later


def test_what_the_system_does_not_let_us_do_with_a_file_names_it(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "x").read_bytes()
    read, written = errors.cannot_read(caught.value, "x"), errors.cannot_write(caught.value, "x")
    assert str(read) == "x: cannot be read: No such file or directory"
    assert str(written) == "x: cannot be written: No such file or directory"
    assert (read.errno, read.problem) == (errno.ENOENT, errors.InputProblem.CANNOT_READ)
    assert (written.errno, written.problem) == (errno.ENOENT, errors.OutputProblem.CANNOT_WRITE)
