"""Status codes against the standard's tables (PS3.7 Annex C, PS3.4)."""

import copy
import json
import pickle
from pathlib import Path

import pytest
from cases import every

from dicomnet.status import Category, Status

TABLES = json.loads((Path(__file__).parent / "data" / "ps38.json").read_text(encoding="utf-8"))["status"]
# The names of ps38.json's tables that dicomnet words otherwise; the DIMSE service stands for its main service class.
SERVICES = {
    "Storage": "C-STORE",
    "Verification": "C-ECHO",
    "Procedure Step (MPPS)": "Modality Performed Procedure Step",
    "Basic Worklist (MWL)": "C-FIND",
    "Substance Administration Query": "C-FIND",
    "Composite Instance Retrieve Without Bulk Data": "C-GET",
}


def service_rows():
    for service_class, tables in TABLES["by_service_class"].items():
        for title, rows in tables.items():
            service = SERVICES.get(service_class, service_class)
            for dimse in ("C-FIND", "C-MOVE", "C-GET"):
                if title.startswith(dimse) and service_class in ("Query/Retrieve", "Composite Instance Root Retrieve"):
                    service = dimse
            if title.startswith("Repository Query"):
                service = "C-FIND"
            for code, category, meaning in rows:
                if category and code != "----":
                    yield service, code, category, meaning


ROWS = list(service_rows())


def first_code(pattern):
    return int(pattern.replace("x", "0"), 16)


@every("code, row", TABLES["general"].items())
def test_general_codes_have_the_standard_s_category_and_words(code, row):
    status = Status(int(code, 16))
    assert status.category.name == row["class"].upper()
    assert status.meaning == row["meaning"]


@every("service, code, category, meaning", ROWS)
def test_codes_of_a_service_have_its_category_and_words(service, code, category, meaning):
    status = Status(first_code(code), service)
    assert status.category.name == category.upper()
    known = {row[3].rstrip(".").lower() for row in ROWS if row[0] == service and row[1] == code}
    if code == "0000":
        # "Film Box successfully created" and the like add nothing; where they do, the services differ.
        assert status.meaning == "Success" or status.meaning.lower() in known
    else:
        assert status.meaning.lower() in known


@pytest.mark.parametrize(
    ("code", "category"),
    [
        (0x0000, Category.SUCCESS),
        (0x0001, Category.WARNING),
        (0x0107, Category.WARNING),
        (0x0116, Category.WARNING),
        (0xB000, Category.WARNING),
        (0xBFFF, Category.WARNING),
        (0x0100, Category.FAILURE),
        (0x01FF, Category.FAILURE),
        (0x0299, Category.FAILURE),
        (0xA000, Category.FAILURE),
        (0xAFFF, Category.FAILURE),
        (0xC000, Category.FAILURE),
        (0xCFFF, Category.FAILURE),
        (0xFE00, Category.CANCEL),
        (0xFF00, Category.PENDING),
        (0xFF01, Category.PENDING),
        # Outside all ranges: a final failure, so that nobody waits for more or takes it for done.
        (0x0002, Category.FAILURE),
        (0x0300, Category.FAILURE),
        (0x5000, Category.FAILURE),
        (0xD000, Category.FAILURE),
        (0xFF02, Category.FAILURE),
        (0xFFFF, Category.FAILURE),
    ],
)
def test_category_by_range(code, category):
    status = Status(code)
    assert status.category is category
    asked = [status.is_success, status.is_warning, status.is_failure, status.is_cancel, status.is_pending]
    assert asked == [category is c for c in Category]


def test_truth_value_is_refused():
    with pytest.raises(TypeError, match="is_success"):
        bool(Status.SUCCESS)
    with pytest.raises(TypeError):
        assert not Status(0xA700)


def test_it_is_an_int():
    status = Status(0xA700, "C-STORE")
    assert status == 0xA700
    assert {0xA700: "x"}[status] == "x"
    assert f"{status:04X}" == "A700"
    assert json.dumps(status) == "42752"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Status(0xA700), "0xA700 (failure: Refused: Out of resources)"),
        (Status(0xA7FF, "C-STORE"), "0xA7FF (failure: Refused: Out of resources)"),
        (Status(0xC123, "C-STORE"), "0xC123 (failure: Error: Cannot understand)"),
        (Status(0xC123, "C-FIND"), "0xC123 (failure: Failed: Unable to process)"),
        (Status(0xB604, "Print Management").meaning[:10], "Image size"),
        (Status.SUCCESS, "0x0000 (success)"),
        (Status.CANCEL, "0xFE00 (cancel)"),
        (Status(0xB123), "0xB123 (warning: Unknown status)"),
        (Status(0xA700, comment="disk\nfull"), "0xA700 (failure: Refused: Out of resources; 'disk\\nfull')"),
    ],
)
def test_text(status, text):
    assert str(status) == text


def test_the_same_code_means_what_its_service_says():
    assert "Coercion" in Status(0xB000, "C-STORE").meaning
    assert "Sub-operations" in Status(0xB000, "C-MOVE").meaning
    assert Status(0xB000, "no such service").meaning == Status(0xB000).meaning


def test_comment_and_offending_elements():
    status = Status(0xC000, "C-STORE", comment="no patient", offending=[0x00100010])
    assert (status.service, status.comment, status.offending) == ("C-STORE", "no patient", (0x00100010,))
    assert (Status(0).service, Status(0).comment, Status(0).offending) == (None, None, ())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_keep_everything(duplicate):
    status = Status(0xC000, "C-STORE", comment="no patient", offending=(0x00100010,))
    again = duplicate(status)
    assert type(again) is Status
    assert again == status
    assert vars(again) == vars(status)


@pytest.mark.parametrize("code", [-1, 0x10000])
def test_sixteen_bits(code):
    with pytest.raises(ValueError, match="16-bit"):
        Status(code)


def test_shared_constants_cannot_be_changed():
    with pytest.raises(AttributeError):
        Status.SUCCESS.comment = "mine"
    assert Status.SUCCESS.comment is None


@pytest.mark.parametrize(
    ("code", "later"), [(0xA700, True), (0xA7FF, True), (0xA6FF, False), (0xA800, False), (0, False)]
)
def test_want_of_resources_passes(code, later):
    assert Status(code).is_out_of_resources is later
