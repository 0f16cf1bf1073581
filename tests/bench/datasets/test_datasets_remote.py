"""Sources on other file systems: any fsspec URI, S3 among them; what may not be read is one sentence."""

from __future__ import annotations

import io
import urllib.request

import fsspec
import numpy as np
import pytest
import tifffile

from bench.datasets import check, image_manifest, load
from bench.datasets.imagexpress import ImageXpress, from_imagexpress
from bench.datasets.jump import LoadData, from_jump
from bench.datasets.ome_zarr import OmeZarr, from_ome_zarr
from bench.errors import DatasetError
from bench.imaging import field_source
from bench.imaging.readers import read_plane


def pixels(well, wave):
    return np.random.default_rng([well, wave]).integers(0, 65536, (5, 6), dtype=np.uint16)


def upload(place, system):
    """Write three wells of two wavelengths and an index with illumination functions below ``place``."""
    rows = [
        "FileName_OrigDNA,PathName_OrigDNA,FileName_IllumDNA,PathName_IllumDNA,Metadata_Plate,Metadata_Well"
    ]
    for w in (1, 2, 3):
        for wave in (1, 2):
            handle = io.BytesIO()
            tifffile.imwrite(handle, pixels(w, wave))
            system.pipe(f"{place}/p1/x_A0{w}_s1_w{wave}.tif", handle.getvalue())
        rows.append(f"x_A0{w}_s1_w1.tif,/mnt/p1,p1_IllumDNA.npy,/mnt/illum,p1,A0{w}")
    handle = io.BytesIO()
    np.save(handle, np.full((5, 6), 2.0))
    system.pipe(f"{place}/illum/p1_IllumDNA.npy", handle.getvalue())
    system.pipe(f"{place}/load_data.csv", "\n".join(rows).encode())


def read_back(place, out):
    """Make both datasets from below ``place`` and compare every pixel."""
    found = from_imagexpress(ImageXpress(folder=f"{place}/p1", name="ix"), out / "ix")
    assert (found.images, found.wells) == (6, 3)
    data = load(out / "ix")
    assert data.images["URI"].iloc[0] == f"{place}/p1/x_A01_s1_w1.tif"
    for w, field in enumerate(field_source(data), 1):
        np.testing.assert_array_equal(field.pixels, np.stack([pixels(w, 1), pixels(w, 2)]))
    assert {f.code for f in check(data) if f.severity == "error"} == {"few-perturbations"}
    assert len({e["sha256"] for e in image_manifest(data, "p1")}) == 6
    index = LoadData(index=f"{place}/load_data.csv", rebase={"/mnt": place}, name="jump")
    from_jump(index, out / "jump")
    for w, field in enumerate(field_source(load(out / "jump")), 1):
        np.testing.assert_array_equal(field.pixels[0], np.rint(pixels(w, 1) / 2.0))
        assert w <= 3


def test_a_plate_on_another_file_system_is_read_where_it_lies(tmp_path):
    system = fsspec.filesystem("memory")
    upload("/bucket/screen", system)
    try:
        read_back("memory://bucket/screen", tmp_path)
        with pytest.raises(DatasetError, match="memory://bucket/nowhere: none of 0 files"):
            from_imagexpress(ImageXpress(folder="memory://bucket/nowhere", name="n"), tmp_path / "no")
        with pytest.raises(DatasetError, match=r"gone\.tif does not exist"):
            read_plane("memory://bucket/gone.tif", 0)
    finally:
        system.rm("/bucket", recursive=True)


class Locked(fsspec.AbstractFileSystem):
    """A bucket without rights: every call is answered as s3fs answers a 403."""

    protocol = "locked"

    def _refuse(self, *args, **more):
        raise PermissionError("Access Denied")

    open = find = isdir = info = ls = _refuse  # isfile is fsspec's, which says False then


class Offline(Locked):
    protocol = "offline"

    def _refuse(self, *args, **more):
        raise RuntimeError("Unable to locate\ncredentials")

    open = find = isdir = info = ls = _refuse


def test_a_plate_that_cannot_be_reached_is_not_called_empty(tmp_path):
    fsspec.register_implementation(Offline.protocol, Offline, clobber=True)
    with pytest.raises(DatasetError, match=r"^offline://bucket/p\.zarr/.* \(Unable to locate credentials\)"):
        from_ome_zarr(OmeZarr(folder="offline://bucket/p.zarr", name="n"), tmp_path / "set")
    fsspec.register_implementation(Locked.protocol, Locked, clobber=True)
    with pytest.raises(DatasetError, match=r"no OME-Zarr plate .*, or may not be read"):
        from_ome_zarr(OmeZarr(folder="locked://bucket/p.zarr", name="n"), tmp_path / "set")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Locked, "may not be read; give your credentials the right to read it"),
        (Offline, r"cannot be read \(Unable to locate credentials\)"),
    ],
)
def test_a_bucket_without_rights_is_one_sentence_with_its_name(tmp_path, kind, message):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    place = f"{kind.protocol}://bucket"
    for make in (
        lambda: read_plane(f"{place}/a.tif", 0),
        lambda: from_imagexpress(ImageXpress(folder=f"{place}/p1", name="n"), tmp_path / "set"),
        lambda: from_jump(LoadData(index=f"{place}/load_data.csv", name="n"), tmp_path / "set"),
    ):
        with pytest.raises(DatasetError, match=message) as error:
            make()
        assert str(error.value).startswith(place)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def rights(address, calls):
    """Let the server answer so many more calls without asking who calls."""
    place, plain = f"{address}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(place, calls.encode(), plain, method="POST")).read()


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server on this machine with one bucket; and the credentials to reach it."""
    server = pytest.importorskip("moto.server", reason="moto serves S3 for this test")
    s3fs = pytest.importorskip("s3fs", reason="s3fs reads S3")
    s3fs.S3FileSystem.clear_instance_cache()
    thread = server.ThreadedMotoServer(port=0)
    thread.start()
    host, port = thread.get_host_and_port()
    address = f"http://{host}:{port}"
    for key, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    system = s3fs.S3FileSystem()
    system.mkdir("screens")
    yield system, address
    rights(address, "inf")
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).read()
    s3fs.S3FileSystem.clear_instance_cache()
    thread.stop()


@pytest.mark.slow
def test_plates_in_a_bucket_are_read_and_lost_rights_are_said(bucket, tmp_path):
    system, address = bucket
    upload("screens/one", system)
    read_back("s3://screens/one", tmp_path)
    rights(address, "0")
    type(system).clear_instance_cache()
    with pytest.raises(
        DatasetError, match=r"s3://screens/one/p1/x_A01_s1_w1\.tif may not be read; give your"
    ):
        read_plane("s3://screens/one/p1/x_A01_s1_w1.tif", 0)
    failures = []
    assert list(field_source(load(tmp_path / "ix"), on_failure=lambda _, r: failures.append(r))) == []
    assert len(failures) == 3
    with pytest.raises(DatasetError, match=r"^s3://screens/one/p1 "):
        from_imagexpress(ImageXpress(folder="s3://screens/one/p1", name="n"), tmp_path / "set")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_ome_zarr_plate_in_a_bucket_is_read_plane_by_plane(bucket, tmp_path):
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("ome_zarr", reason="ome-zarr-py writes the plate")
    from ome_zarr.format import FormatV05
    from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

    system, _ = bucket
    form = FormatV05()
    written = np.random.default_rng(0).integers(0, 60000, (2, 3, 8, 9), dtype=np.uint16)
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="w", zarr_format=3)
    write_plate_metadata(group, ["A"], ["1"], ["A/1"], fmt=form)
    well = group.require_group("A/1")
    write_well_metadata(well, ["0"], fmt=form)
    write_image(written, well.require_group("0"), fmt=form, axes="czyx")
    system.put(str(tmp_path / "p.zarr"), "screens/p.zarr", recursive=True)
    found = from_ome_zarr(OmeZarr(folder="s3://screens", name="z", projection="max"), tmp_path / "set")
    assert (found.images, found.wells) == (6, 1)
    data = load(tmp_path / "set")
    (field,) = field_source(data)
    np.testing.assert_array_equal(field.pixels, written.max(1))
    assert len(image_manifest(data, "p")[0]["sha256"]) == 64
