"""Mutated PDUs through every decoder and the core; ``make fuzz`` runs as many as one likes."""

import random

import pytest

from tests.fuzz import mutate, targets


@pytest.mark.parametrize("seed", range(8))
def test_mutated_pdus_cause_nothing_but_what_is_documented(seed):
    mutate.run(seed, 2500, growth=None)


@pytest.mark.measures
def test_mutated_pdus_leave_no_memory_behind():
    mutate.run(99, 40_000)


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_every_target_takes_every_seed_as_it_is(name):
    for data in mutate.seeds().get(name, mutate.seeds()["pdu"]):
        targets.TARGETS[name](data)


def test_the_data_sets_and_files_that_are_mutated_are_well_formed():
    for data, file in zip(targets.data_sets(), targets.files(), strict=True):
        syntax = targets.DATA_SYNTAXES[data[0]]
        read = targets.codec.decode(data[1:], syntax)
        assert (read.PatientName, len(read.ReferencedImageSequence), len(read.PixelData)) == ("DOE^JANE", 1, 16)
        meta, start = targets.read_meta(file)
        assert (meta.transfer_syntax_uid, file[start:]) == (syntax, data[1:])


def test_mutation_does_change_something():
    rng = random.Random(1)
    original = bytes(range(64))
    assert sum(mutate.mutate(rng, original) != original for _ in range(100)) > 90


def test_a_surprise_is_reported_with_its_input(monkeypatch):
    def surprised(data: bytes) -> None:
        raise IndexError

    monkeypatch.setitem(targets.TARGETS, "pdu", surprised)
    with pytest.raises(AssertionError, match="seed 1, input"):
        mutate.run(1, 100)
