"""The settings of a server: read from TOML and the environment, every mistake at once."""

from __future__ import annotations

import pytest

from dicomnet.server.settings import RESTART, Settings, SettingsInvalid, Table, fields_of
from tools import server_settings


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "server.toml"
        path.write_text(text)
        return path

    return write


def problems(path):
    with pytest.raises(SettingsInvalid) as caught:
        Settings.load(path)
    return {(one.table, one.field): one for one in caught.value.problems}


def test_a_title_is_all_that_a_file_needs(write, tmp_path):
    settings = Settings.load(write('[server]\nae_title = "ARCHIVE"\n'))
    assert settings.server.ae_title == "ARCHIVE"
    assert settings.admin.socket == tmp_path / "run/admin.sock"
    assert Settings.load(tmp_path) == settings


def test_words_for_sizes_and_times(write):
    settings = Settings.load(write('[server]\nae_title="A"\n[timeouts]\nclient="2m"\n[access]\nmax_pdu="64k"'))
    assert settings.network_timeouts().idle == 120
    assert settings.limits().max_pdu == 65536


def test_all_mistakes_are_told_at_once_each_with_its_place(write):
    path = write(
        '[server]\nae_title = "MORETHANSIXTEENCHARS"\nstart_mode = "often"\n'
        '[listen]\nport = 70000\nprot = 3\ntls_port = 5\n[timeouts]\nclient = "2x"\n[lisen]\nport = 1\n'
    )
    found = problems(path)
    assert set(found) == {
        ("server", "ae_title"), ("server", "start_mode"), ("listen", "port"), ("listen", "prot"),
        ("listen", "tls_port"), ("timeouts", "client"), ("", "lisen"),
    }  # fmt: skip
    assert found["listen", "prot"].expected == "port?"
    assert "'automatic'" in found["server", "start_mode"].expected
    assert "65535" in found["listen", "port"].expected
    assert all(one.file == str(path) for one in found.values())


def test_what_is_no_toml_and_what_is_not_there(write, tmp_path):
    assert "not TOML" in str(problems(write("[server"))["", ""])
    assert "dicomnet server create" in str(problems(tmp_path / "none.toml")["", ""])


def test_the_environment_overrides_and_is_named_where_it_is_wrong(write, monkeypatch):
    path = write('[server]\nae_title = "ARCHIVE"\n[listen]\nport = 104\n')
    monkeypatch.setenv("DICOMNET_LISTEN__PORT", "2762")
    monkeypatch.setenv("DICOMNET_SERVERS", "elsewhere")
    assert Settings.load(path).listen.port == 2762
    monkeypatch.setenv("DICOMNET_LISTEN__PORT", "many")
    assert "DICOMNET_LISTEN__PORT" in problems(path)["listen", "port"].file


def test_a_reload_keeps_what_needs_a_restart(write):
    old = Settings.load(write('[server]\nae_title = "A"\naliases = ["B"]\n[listen]\nport = 104\n'))
    new = Settings.load(write('[server]\nae_title = "A"\naliases = ["C"]\n[listen]\nport = 105\n'))
    held, waiting = old.reloaded(new)
    assert waiting == ("listen.port",)
    assert (held.listen.port, held.server.aliases) == (104, ("C",))
    assert set(old.changes(held)) == {"server.aliases"}


def test_the_web_port_is_for_this_machine_alone(write):
    for good in ("127.0.0.1", "::1", "localhost"):
        assert Settings.load(write(f'[server]\nae_title = "A"\n[web]\nhost = "{good}"\n')).web.host == good
    for bad in ("0.0.0.0", "::", "pacs.example", ""):
        with pytest.raises(SettingsInvalid, match=r"\[web\] host: the web port has no login"):
            Settings.load(write(f'[server]\nae_title = "A"\n[web]\nhost = "{bad}"\n'))


def test_snapshots_cannot_be_changed(write):
    settings = Settings.load(write('[server]\nae_title = "A"\n'))
    with pytest.raises(ValueError, match="frozen"):
        settings.server.ae_title = "B"


def test_the_table_of_an_add_in_is_checked_by_its_own_model(write):
    class Mine(Table):
        colour: str
        size: int = 3

    settings = Settings.load(write('[server]\nae_title = "A"\n[addin.mine]\ncolor = "red"\n'))
    with pytest.raises(SettingsInvalid) as caught:
        settings.table("mine", Mine)
    found = {(one.table, one.field) for one in caught.value.problems}
    assert found == {("addin.mine", "colour"), ("addin.mine", "color")}


def every_table(model):
    for field in model.model_fields.values():
        for one in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(one, type) and issubclass(one, Table):
                yield one


def test_every_field_is_described():
    for table in every_table(Settings):
        assert all(field.description for field in table.model_fields.values()), table


def test_ports_need_a_restart_and_time_outs_of_add_ins_do_not():
    restarts = {
        table.__name__: {name for name, restart in fields_of(table) if restart} for table in every_table(Settings)
    }
    assert {"host", "port", "tls_port"} <= restarts["ListenSettings"]
    assert "add_in" not in restarts["TimeoutSettings"]
    assert repr(RESTART) == "RESTART"


def test_the_reference_is_made_from_the_model():
    assert server_settings.PAGE.read_text(encoding="utf-8") == server_settings.page()
