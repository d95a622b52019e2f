"""What the packaging files promise to each other."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

import dicomnet
from dicomnet import uids
from dicomnet.cli.app import COMMANDS
from dicomnet.cli.lazy_group import Lazy, LazyGroup

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


def places_by_extra(commands: Mapping[str, Lazy]) -> Iterator[tuple[str, str]]:
    """The extra and the place of every command, those of groups too."""
    for one in commands.values():
        yield one.extra or "cli", one.place
        module, _, name = one.place.partition(":")
        if one.extra == "" and isinstance(group := getattr(import_module(module), name), LazyGroup):
            yield from places_by_extra(group.lazy)


PLACES = sorted(set(places_by_extra(COMMANDS)))
IMPORT = """
import json, sys
hidden, places = json.load(sys.stdin)
sys.modules.update(dict.fromkeys(hidden))  # as where they are not installed
from importlib import import_module
for place in places:
    try:
        import_module(place.partition(":")[0])
    except ImportError as error:
        sys.exit(f"{place}: {error}")
"""


def installed_by(*requirements: str, seen: set[tuple[str, str]]) -> set[str]:
    """Names of the distributions that pip installs for these requirements, as far as they are here."""
    found: set[str] = set()
    for text in requirements:
        name, extras = re.match(r"([\w.-]+)\s*(?:\[([^]]*)\])?", text).groups()
        name = re.sub(r"[-_.]+", "-", name).lower()
        for extra in ["", *(one.strip() for one in (extras or "").split(",") if one)]:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == "dicomnet":
                project = PROJECT["project"]
                wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
            else:
                try:
                    wanted = importlib.metadata.requires(name) or []
                except importlib.metadata.PackageNotFoundError:
                    continue
                found.add(name)
                of_extra = f"extra == '{extra}'"
                plain = [one.replace('"', "'") for one in wanted]
                wanted = [one for one in plain if (of_extra in one if extra else "extra ==" not in one)]
            found |= installed_by(*wanted, seen=seen)
    return found


@pytest.mark.parametrize("extra", sorted({extra for extra, _ in PLACES}))
def test_an_extra_brings_what_its_commands_import(extra):
    """`pip install dicomnet[archive]` is enough for `dicomnet archive run`, though a developer has everything."""
    everything = installed_by("dicomnet[dev]", seen=set())
    brought = installed_by("dicomnet[cli]" if extra == "cli" else f"dicomnet[cli,{extra}]", seen=set())
    hidden = [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not module.startswith("_")
        and not {re.sub(r"[-_.]+", "-", one).lower() for one in owners} & (brought | {"dicomnet"})
        and {re.sub(r"[-_.]+", "-", one).lower() for one in owners} <= everything
    ]
    assert "pytest" in hidden
    places = [place for one, place in PLACES if one == extra]
    told = json.dumps([hidden, places])
    done = subprocess.run([sys.executable, "-c", IMPORT], input=told, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
