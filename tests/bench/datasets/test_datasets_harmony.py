"""Harmony exports: both schemas, truncated and hostile XML, planes, time points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from bench.datasets import check, harmony_profile, harmony_xml, load
from bench.datasets.harmony import Harmony, from_harmony
from bench.errors import DatasetError, UsageError
from bench.imaging import field_source

SPACE = {
    "V5": "http://www.perkinelmer.com/PEHH/HarmonyV5",
    "V6": "http://www.perkinelmer.com/PEHH/HarmonyV6",
    "V7": "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7",
}
CHANNELS = {"1": "HOECHST 33342", "2": "Alexa 488"}
PLACES = [(r, c, f, p, ch) for r, c in ((1, 1), (16, 24)) for f in (1, 2) for p in (1, 2) for ch in CHANNELS]


def name(r, c, f, p, ch, t=1):
    return f"r{r:02}c{c:02}f{f:02}p{p:02}-ch{ch}sk{t}fk1fl1.tiff"


def channel_fields(ch):
    return (
        f"<ChannelName>{CHANNELS[ch]}</ChannelName><ImageResolutionX Unit='m'>5.9799E-07</ImageResolutionX>"
        "<ImageSizeX>7</ImageSizeX><MaxIntensity>65536</MaxIntensity>"
    )


IDENTITY = "{Background: {Character: Null, Mean: NaN, Profile: {Type: Identity}, Quality: 0.25}, Channel: 2}"
PROFILE = (
    "{Background: {Character: NonFlat, Mean: 443.8, NonFlatness: {Corrected: 0.1, Random: INF}, Profile: "
    "{Coefficients: [[1.1], [0.2, -0.1], [-0.6, 0.3, -0.5], [0.0, 0.4, 0.0, 0.1]], Dims: [7, 6], "
    "Origin: [3, 2.5], Scale: [0.14285714, 1.6666667E-1], Type: Polynomial}, Quality: 1.0}, Channel: 1, "
    'ChannelName: "405ex, {570}", Version: Acapella:2013}'
)


def index(version, places=PLACES, state="Ok", times=(1,), profiles=("{}", "{}")):
    """Return an index as Harmony writes it: a BOM, a namespace, channel fields in Maps in V7."""
    parts = [f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<EvaluationInputData xmlns="{SPACE[version]}">']
    parts.append("<User>a &amp; b</User><Plates><Plate><PlateID>PL1</PlateID><Name>other</Name>")
    parts.append("<PlateRows>16</PlateRows><PlateColumns>24</PlateColumns><Well id='0101'/></Plate></Plates>")
    parts.append(
        "<Wells><Well><id>0101</id><Row>1</Row><Col>1</Col><Image id='0101K1F1P1R1'/></Well></Wells>"
    )
    parts.append("<Maps><Map>")
    parts += [
        f"<Entry ChannelID='{ch}'><FlatfieldProfile>{text}</FlatfieldProfile></Entry>"
        for ch, text in zip(CHANNELS, profiles, strict=True)
    ]
    parts.append("</Map>")
    if version == "V7":
        parts.append("<Map>")
        parts += [f"<Entry ChannelID='{ch}'>{channel_fields(ch)}</Entry>" for ch in CHANNELS]
        parts.append("</Map>")
    parts.append("</Maps>")
    parts.append("<Images>")
    for t in times:
        for r, c, f, p, ch in places:
            parts.append(
                f"<Image Version='1'><id>x</id><State>{state}</State><URL>{name(r, c, f, p, ch, t)}</URL>"
                f"<Row>{r}</Row><Col>{c}</Col><FieldID>{f}</FieldID><PlaneID>{p}</PlaneID>"
                f"<TimepointID>{t - 1}</TimepointID><ChannelID>{ch}</ChannelID>"
                f"{'' if version == 'V7' else channel_fields(ch)}<PositionX Unit='m'>0</PositionX></Image>"
            )
    return "".join([*parts, "</Images></EvaluationInputData>\n"])


def written(folder, version="V5", **more):
    images = folder / "Images"
    images.mkdir(parents=True)
    file = images / ("Index.xml" if version == "V7" else "Index.idx.xml")
    file.write_text(index(version, **more), encoding="utf-8")
    for t in more.get("times", (1,)):
        for place in PLACES:
            tifffile.imwrite(images / name(*place, t), pixels(*place, t))
    return file


def pixels(r, c, f, p, ch, t=1):
    return np.random.default_rng([r, c, f, p, int(ch), t]).integers(0, 65536, (6, 7), dtype=np.uint16)


def made(source, tmp_path, **more):
    return from_harmony(Harmony(index=source, name="h", **more), tmp_path / "set")


def fields(data):
    return {(f.metadata["Metadata_Well"], f.metadata["Metadata_Site"]): f.pixels for f in field_source(data)}


@pytest.mark.parametrize("version", sorted(SPACE))
def test_every_schema_becomes_the_same_dataset(tmp_path, version):
    written(tmp_path / "in", version)
    found = made(tmp_path / "in", tmp_path, projection="max", nucleus="HOECHST 33342")
    assert (found.images, found.wells, found.unmatched) == (16, 2, ())
    data = load(tmp_path / "set")
    assert {f.code for f in check(data) if f.severity == "error"} == {"few-perturbations"}
    assert [(c.name, c.stain, c.role) for c in data.channels] == [
        ("HOECHST 33342", "HOECHST 33342", "nucleus"),
        ("Alexa 488", "Alexa 488", ""),
    ]
    assert data.pixel_size_um == pytest.approx(0.59799)
    assert set(data.images["Metadata_Plate"]) == {"PL1"}
    read = fields(data)
    assert sorted(read) == [("A01", "1"), ("A01", "2"), ("P24", "1"), ("P24", "2")]
    for (well, site), field in read.items():
        r, c = (1, 1) if well == "A01" else (16, 24)
        for i, ch in enumerate(CHANNELS):
            stack = [pixels(r, c, int(site), p, ch) for p in (1, 2)]
            np.testing.assert_array_equal(field[i], np.maximum(*stack))


def test_planes_and_time_points_are_asked_for(tmp_path):
    file = written(tmp_path / "in", times=(1, 2))
    with pytest.raises(UsageError, match="time points 0, 1; choose one with --timepoint 1"):
        made(file, tmp_path, projection="max")
    with pytest.raises(UsageError, match=r"z-stacks \(planes 1, 2\); name a rule"):
        made(file, tmp_path, timepoint="1")
    found = made(file, tmp_path, timepoint="1", projection="none:2", channels=("DNA", "ER"))
    assert len(found.unmatched) == 16
    data = load(tmp_path / "set")
    assert [c.name for c in data.channels] == ["DNA", "ER"]
    np.testing.assert_array_equal(fields(data)["P24", "2"][1], pixels(16, 24, 2, 2, "2", 2))


def test_images_that_are_not_ok_or_absent_are_named(tmp_path):
    file = written(tmp_path / "in")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("<State>Ok</State>", "<State>Failed</State>", 1), encoding="utf-8")
    (file.parent / name(16, 24, 1, 1, "2")).unlink()
    found = made(file, tmp_path, projection="max")
    assert found.unmatched == (name(1, 1, 1, 1, "1"),)
    assert [a.rpartition("/")[2] for a in found.absent] == [name(16, 24, 1, 1, "2")]
    failures = []
    list(field_source(load(tmp_path / "set"), on_failure=lambda _, r: failures.append(r)))
    assert len(failures) == 1
    assert "does not exist" in failures[0]
    file.write_text(index("V5", state="Failed"), encoding="utf-8")
    with pytest.raises(DatasetError, match="none of its 16 images has the state Ok"):
        from_harmony(Harmony(index=file, name="h"), tmp_path / "other")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_truncated_index_is_one_sentence(tmp_path, share):
    file = written(tmp_path / "in", "V7")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=r"Index\.xml is truncated or damaged"):
        made(file, tmp_path, projection="max")
    assert not (tmp_path / "set").exists()


def test_entities_are_refused_before_they_expand(tmp_path):
    laughs = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    body = "<EvaluationInputData><Images>&a11;</Images></EvaluationInputData>"
    text = f"<?xml version='1.0'?><!DOCTYPE x [{laughs}]>{body}"
    (tmp_path / "Index.idx.xml").write_text(text)
    with pytest.raises(DatasetError, match="declares a document type"):
        harmony_xml.read(str(tmp_path / "Index.idx.xml"))
    outside = "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><EvaluationInputData/>"
    (tmp_path / "Index.idx.xml").write_text(outside)
    with pytest.raises(DatasetError, match="declares a document type"):
        harmony_xml.read(str(tmp_path / "Index.idx.xml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<FieldID>1</FieldID>", "", "image 1 lacks FieldID"),
        ("<Row>1</Row><Col>1</Col><FieldID>", "<Row>x</Row><Col>1</Col><FieldID>", "in row 'x', column '1'"),
        ("EvaluationInputData", "Else", "its root is Else, not EvaluationInputData"),
    ],
)
def test_what_an_index_lacks_is_said(tmp_path, old, new, message):
    file = written(tmp_path / "in")
    text = file.read_text(encoding="utf-8")
    count = -1 if old == "EvaluationInputData" else 1
    file.write_text(text.replace(old, new, count), encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        made(file, tmp_path, projection="max")


def test_a_folder_without_an_index_says_what_it_looked_for(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match=r"no Index\.idx\.xml or Index\.xml"):
        made(tmp_path / "in", tmp_path)


def test_channels_without_distinct_names_are_numbered(tmp_path):
    file = written(tmp_path / "in")
    file.write_text(file.read_text(encoding="utf-8").replace("Alexa 488", "HOECHST 33342"), encoding="utf-8")
    made(file, tmp_path, projection="max")
    assert [c.name for c in load(tmp_path / "set").channels] == ["ch1", "ch2"]


def surface(height, width, binning=1, shrink=1.0):
    """PROFILE by the definition, pixel by pixel."""
    rows = ((1.1,), (0.2, -0.1), (-0.6, 0.3, -0.5), (0.0, 0.4, 0.0, 0.1))
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            u = ((x + 0.5) * binning - 0.5 - 3) * 0.14285714 * shrink
            v = ((y + 0.5) * binning - 0.5 - 2.5) * 0.16666667 * shrink
            out[y, x] = sum(c * u ** (n - k) * v**k for n, row in enumerate(rows) for k, c in enumerate(row))
    return out


@pytest.mark.parametrize("version", sorted(SPACE))
def test_the_indexs_flat_field_is_divided_out_when_asked(tmp_path, version):
    written(tmp_path / "in", version, profiles=(PROFILE, IDENTITY))
    made(tmp_path / "in", tmp_path, projection="none:1", illumination="harmony")
    data = load(tmp_path / "set")
    assert list(data.illumination["Channel"]) == ["HOECHST 33342"]
    assert {f.code for f in check(data) if f.severity == "error"} == {"few-perturbations"}
    for (well, site), field in fields(data).items():
        r, c = (1, 1) if well == "A01" else (16, 24)
        raw = [pixels(r, c, int(site), 1, ch) for ch in CHANNELS]
        np.testing.assert_allclose(field[0], np.clip(raw[0] / surface(6, 7), 0, 65535), atol=0.51)
        np.testing.assert_array_equal(field[1], raw[1])


def test_the_flat_field_is_left_alone_unless_asked(tmp_path):
    written(tmp_path / "in", profiles=(PROFILE, IDENTITY))
    made(tmp_path / "in", tmp_path, projection="max")
    assert load(tmp_path / "set").illumination is None
    assert not (tmp_path / "set" / "illumination").exists()


def test_a_profile_is_the_polynomial_by_degree_and_follows_binning():
    profile = harmony_profile.parse(PROFILE, "x")
    np.testing.assert_allclose(harmony_profile.evaluate(profile, 6, 7, "x"), surface(6, 7), rtol=1e-6)
    scale = (profile.scale[0] / 4, profile.scale[1] / 4)
    half = harmony_profile.evaluate(replace(profile, dims=(14.0, 12.0), scale=scale), 6, 7, "x")
    np.testing.assert_allclose(half, surface(6, 7, binning=2, shrink=0.25), rtol=1e-6)
    both = PROFILE.replace("{Background", "{Foreground: {Profile: {Type: Identity}}, Background")
    assert harmony_profile.parse(both, "x") == profile
    first = both.replace("{Type: Identity}", "{Coefficients: [[2]], Dims: [7, 6], Origin: [3, 3], "
                         "Scale: [1, 1], Type: Polynomial}")  # fmt: skip
    assert harmony_profile.parse(first, "x").coefficients == ((2.0,),)
    assert harmony_profile.parse("{}", "x") is None
    assert harmony_profile.parse(IDENTITY, "x") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Origin: [3, 2.5], ", "", "channel 1 .HOECHST 33342.: its flat-field profile lacks"),
        ("[0.2, -0.1], ", "", "do not go by degree"),
        ("0.2, -0.1", "0.2, NaN", "are no numbers"),
        ("[[1.1]", "[[0.1]", "falls to -"),
        ("Dims: [7, 6]", "Dims: [7, 7]", "is for 7 x 7 pixels, the images have 7 x 6"),
        (PROFILE, IDENTITY, "holds no flat-field profile"),
    ],
)
def test_a_profile_that_cannot_be_used_is_said(tmp_path, old, new, message):
    written(tmp_path / "in", profiles=(PROFILE.replace(old, new), IDENTITY))
    with pytest.raises(DatasetError, match=message):
        made(tmp_path / "in", tmp_path, projection="max", illumination="harmony")
    assert not (tmp_path / "set").exists()


def test_an_unknown_illumination_lists_those_there_are(tmp_path):
    with pytest.raises(UsageError, match="'flat' is none of none, harmony"):
        made(tmp_path, tmp_path, illumination="flat")
