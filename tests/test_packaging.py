"""What the packaging files promise to each other."""

import tomllib
from pathlib import Path

import pytest

import dicomnet
from dicomnet import uids
from dicomnet.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version():
    version = PROJECT["project"]["version"]
    assert dicomnet.__version__ == version
    assert f"DICOMNET_{'_'.join(version.split('.')[:2])}" == uids.IMPLEMENTATION_VERSION_NAME
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["demo", "test"])
def test_the_readme_starts_with_commands_that_exist(command):
    assert f"make {command}" in (ROOT / "README.md").read_text(encoding="utf-8")[:1000]
    assert f"\n{command}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", ["README.md", "docs/interface.md"])
def test_the_documents_name_every_command(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"dicomnet {name}" not in text and f"`{name}`" not in text] == []


def test_a_source_distribution_carries_what_it_is_built_from():
    rules = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    for ending in ("*.pyx", "*.pxd", "*.pyi"):
        assert ending in rules
    assert "global-exclude *.c" in rules


def test_a_build_uses_what_the_development_extras_install():
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(PROJECT["build-system"]["requires"]) <= set(extras["dev"])
