from __future__ import annotations

from pathlib import Path

import pytest

from app_custom.participant.site_configuration import (
    FILE_NAME,
    SiteConfig,
    data_folder,
    path_for_site,
    read_site_config,
    state_folder,
)
from fedi2i.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    return folder


def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read_site_config(tmp_path)
    assert str(tmp_path / "fedi2i.yaml") in str(error.value)
    assert "fedi2i jobs workspace" in str(error.value)


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'share_image'; did you mean 'share_image"):
        read_site_config(written(tmp_path, "share_image: true\n"))


def test_a_value_of_the_wrong_type_is_refused_and_its_key_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="torch_threads"):
        read_site_config(written(tmp_path, "torch_threads: many\n"))


def test_a_site_sends_no_pictures_unless_it_says_so(tmp_path: Path) -> None:
    config = read_site_config(written(tmp_path, "datasets: {demo: /data}\n"))
    assert config == SiteConfig(datasets={"demo": "/data"})
    assert not config.share_images


def test_an_unmapped_data_set_is_named_with_the_nearest_mapped_one() -> None:
    config = SiteConfig(datasets={"glioma": "/data/glioma", "demo": "/data/demo"})
    with pytest.raises(ConfigError, match=r"'east' has no data set 'gliomas'.*'glioma'"):
        data_folder(config, "gliomas", "east")


def test_the_site_s_name_is_put_in_wherever_a_path_asks_for_it() -> None:
    config = SiteConfig(datasets={"demo": "/data/{site}/demo/{site}"})
    assert data_folder(config, "demo", "east") == Path("/data/east/demo/east")


def test_a_path_without_place_for_the_site_stays_as_it_is() -> None:
    assert path_for_site("/data/demo", "east") == Path("/data/demo")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/doctor")
    assert path_for_site("~/scans", "east") == Path("/home/doctor/scans")


def test_a_mapping_that_nobody_filled_in_says_where_to_write_what() -> None:
    with pytest.raises(ConfigError, match=r"'east' maps no data set: write 'demo: <folder.*yaml"):
        data_folder(SiteConfig(), "demo", "east")


def test_state_is_kept_in_the_workspace_unless_the_site_names_a_folder() -> None:
    assert state_folder(SiteConfig(), "east", Path("/nvflare")) == Path("/nvflare/state")
    config = SiteConfig(state="/var/{site}")
    assert state_folder(config, "east", Path("/nvflare")) == Path("/var/east")
