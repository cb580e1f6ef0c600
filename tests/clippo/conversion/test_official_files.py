"""Search and download of the official files, from a server on the loopback address."""

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clippo.conversion import official_files
from clippo.conversion.official_files import (
    FONT_SHA256,
    RELEASED_CHECKPOINTS,
    OfficialFileError,
    download,
    find_checkpoint,
    find_official_font,
    resolve_font,
)

FONTS = {name: f"0041:{i:032X}\n".encode() for i, name in enumerate(FONT_SHA256)}  # stand-ins, one glyph each


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path.endswith("short.npz"):  # announces more than it sends
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            return
        super().do_GET()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that is served, with the module's addresses and hashes pointing at it."""
    folder = tmp_path / "server"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{http.server_port}/"
    monkeypatch.setattr(official_files, "CHECKPOINT_URL", address)
    monkeypatch.setattr(official_files, "FONT_URL", address)
    monkeypatch.setattr(official_files, "FONT_SHA256", {n: hashlib.sha256(d).hexdigest() for n, d in FONTS.items()})
    monkeypatch.delenv("CLIPPO_FONTS", raising=False)
    yield folder
    http.shutdown()
    http.server_close()
    thread.join()


def put_fonts(folder, packed: bool):
    folder.mkdir(exist_ok=True)
    for name, data in FONTS.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder


def test_the_six_released_names_are_known():
    assert len(RELEASED_CHECKPOINTS) == 6
    endings = {name.rpartition("_")[2] for name in RELEASED_CHECKPOINTS}
    assert endings == {"yfcc100m", "init", "25c4", "50c4", "75c4", "100c4"}


def test_a_local_file_wins_over_everything(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(b"")
    assert find_checkpoint(path) == path


@pytest.mark.parametrize("form", ["{}", "{}.npz", "gs://big_vision/clippo/{}.npz"])
def test_a_released_name_is_downloaded_once(form, server, tmp_path):
    name = "clippo_b16_100c4"
    (server / f"{name}.npz").write_bytes(b"weights")
    found = find_checkpoint(form.format(name), tmp_path / "cache")
    assert found.read_bytes() == b"weights"
    (server / f"{name}.npz").unlink()
    assert find_checkpoint(name, tmp_path / "cache") == found


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(OfficialFileError, match=r"'clippo_l16' is neither a file nor a released .* clippo_b16_100c4"):
        find_checkpoint("clippo_l16", tmp_path)


def test_a_failed_download_says_what_to_do_and_leaves_nothing(server, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(OfficialFileError, match=r"404.*get gs://big_vision/clippo/clippo_b16_yfcc100m.npz by"):
        find_checkpoint("clippo_b16_yfcc100m", cache)
    assert list(cache.iterdir()) == []


def test_a_cut_off_download_is_not_kept(server, tmp_path):
    with pytest.raises(OfficialFileError, match=r"10 of 1000 bytes|10 bytes read, 990 more expected"):
        download(f"{official_files.CHECKPOINT_URL}short.npz", tmp_path / "out" / "short.npz", "do it by hand")
    assert list((tmp_path / "out").iterdir()) == []


def test_file_addresses_work(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    download((tmp_path / "a").as_uri(), tmp_path / "b", "do it by hand")
    assert (tmp_path / "b").read_bytes() == b"content"


def test_the_font_is_downloaded_unpacked_and_kept(server, tmp_path):
    put_fonts(server, packed=True)
    paths = find_official_font(cache_dir=tmp_path / "cache")
    assert [path.read_bytes() for path in paths] == list(FONTS.values())
    for file in server.iterdir():
        file.unlink()
    assert find_official_font(cache_dir=tmp_path / "cache") == paths


@pytest.mark.parametrize("packed", [False, True])
def test_the_font_is_found_in_a_folder(packed, server, tmp_path, monkeypatch):
    folder = put_fonts(tmp_path / "fonts", packed)
    by_argument = resolve_font(folder, tmp_path / "cache")
    monkeypatch.setenv("CLIPPO_FONTS", str(folder))
    by_variable = resolve_font("official", tmp_path / "cache")
    assert by_argument == by_variable
    assert [path.read_bytes() for path in by_argument] == list(FONTS.values())


def test_another_font_under_the_official_name_is_refused(server, tmp_path):
    folder = put_fonts(tmp_path / "fonts", packed=False)
    (folder / "unifont-9.0.06.hex").write_bytes(b"0041:00\n")
    for font in (folder, [folder / name for name in FONTS]):
        with pytest.raises(OfficialFileError, match=r"is not the official font unifont-9.0.06.hex: its sha256 is"):
            resolve_font(font, tmp_path / "cache")


@pytest.mark.parametrize("content", [gzip.compress(b"other"), b"<html>not found</html>"], ids=["other", "html"])
def test_a_wrong_download_of_the_font_is_not_kept(content, server, tmp_path):
    put_fonts(server, packed=True)
    (server / "unifont_upper-9.0.06.hex.gz").write_bytes(content)
    with pytest.raises(OfficialFileError, match=r"its sha256 is|not a whole gzip file"):
        find_official_font(cache_dir=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["unifont-9.0.06.hex"]


def test_missing_fonts_are_named(server, tmp_path):
    with pytest.raises(OfficialFileError, match=r"has neither unifont-9.0.06.hex nor unifont-9.0.06.hex.gz"):
        resolve_font(tmp_path)
    with pytest.raises(OfficialFileError, match=r"There is no font nowhere.ttf"):
        resolve_font("nowhere.ttf")
    with pytest.raises(OfficialFileError, match=r"404.*put unifont-9.0.06.hex and unifont_upper-9.0.06.hex in a"):
        resolve_font("official", tmp_path / "cache")


def test_other_fonts_are_taken_with_a_warning(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(official_files.logger, "warning", warnings.append)
    (tmp_path / "mine.ttf").write_bytes(b"")
    assert resolve_font(tmp_path / "mine.ttf") == [tmp_path / "mine.ttf"]
    assert resolve_font("default") is None
    assert "mine.ttf is not the official one" in warnings[0]
    assert "45 of the 147 reference strings" in warnings[1]


def test_the_real_hashes_are_those_of_the_official_font(shared):
    assert [path.name for path in find_official_font(shared("fonts"))] == list(FONT_SHA256)
