"""The logger of the package, and what is said of errors."""

import logging

import faces
import pytest

import dicomnet as dn
from dicomnet import uids
from dicomnet.errors import InvalidArgument, OutputFileError
from dicomnet.log import in_brief, log, log_failure
from dicomnet.services import scu


def test_it_is_the_logger_of_the_package(caplog):
    with caplog.at_level(logging.INFO, "dicomnet"):
        log.info("%s to see", "something")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("dicomnet", "something to see")]
    assert log.isEnabledFor(logging.CRITICAL)


# ---- no patient is named at INFO and above ---------------------------------------------------------------------------


def fail_with(text: str) -> Exception:
    try:
        raise KeyError(text)
    except KeyError as error:
        return error


def test_what_an_exception_says_is_for_debug(caplog):
    with caplog.at_level(logging.INFO, "dicomnet"):
        log_failure("C-FIND-RQ failed", fail_with("DOE^JANE"))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is KeyError
    assert "in fail_with" in caplog.text
    assert caplog.text.rstrip().endswith("KeyError")
    assert "DOE" not in caplog.text
    with caplog.at_level(logging.DEBUG, "dicomnet"):
        log_failure("C-FIND-RQ failed", fail_with("DOE^JANE"))
    assert "DOE^JANE" in caplog.text


def test_errors_are_brief_where_they_could_quote_a_value():
    assert in_brief(InvalidArgument("PatientName (PN) cannot have the value 'DOE^JANE'")) == "InvalidArgument"
    assert in_brief(OutputFileError("is full\n")) == "is full\\n"


def identifier(value: bytes) -> bytes:
    """A data set in implicit VR that names a patient, and has an age that nothing can be made of."""
    name = b"\x10\0\x10\0" + len(value).to_bytes(4, "little") + value
    return b"\x08\0\x52\0\6\0\0\0STUDY " + name + b"\x10\0\x30\x10\x08\0\0\0DOE^JANE"


def refused(listener):
    @listener.on_find("STUDY_ROOT")
    def find(request):
        if request.command.priority == 1:
            request.identifier.PatientName = object()
        if request.command.priority == 2:
            yield {"PatientBirthDate": "DOE^JANE"}
        yield {"PatientWeight": float(str(request.identifier.PatientName))}

    @listener.on_get("STUDY_ROOT")
    def get(request):
        return [{"PatientBirthDate": "DOE^JANE"}, b"DOE^JANE"]


@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize("priority", [0, 1, 2])
@pytest.mark.parametrize("cut", [0, 3])
@pytest.mark.filterwarnings("ignore")
def test_no_patient_is_named_when_a_query_fails(face, priority, cut, caplog):
    data = identifier(b"DOE^JANE")
    with (
        caplog.at_level(logging.INFO, "dicomnet"),
        faces.provider(face, refused) as provider,
        dn.connect(provider.peer(), contexts=dn.contexts.query_retrieve()) as association,
    ):
        exchange = association._exchange
        context = exchange.context_for(uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
        flow = scu.find(exchange, context, data[: len(data) - 2 * cut], priority)
        list(association._requestor.results(flow))
        assert association.established
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    assert "DOE" not in "".join(line for line in caplog.text.splitlines() if "yield" not in line)


@pytest.mark.parametrize("face", faces.FACES)
def test_no_patient_is_named_when_a_retrieve_fails(face, caplog):
    with (
        caplog.at_level(logging.INFO, "dicomnet"),
        faces.provider(face, refused) as provider,
        dn.connect(provider.peer(), contexts=dn.contexts.query_retrieve([faces.CT])) as association,
    ):
        association.get("STUDY", StudyInstanceUID="1.2", to=lambda request: None)
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    assert "DOE" not in caplog.text
