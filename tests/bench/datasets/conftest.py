"""A small dataset on disk that has nothing wrong with it; tests break one thing each."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

TOML = """
schema_version = 1
name = "small"
version = "1"
bit_depth = 12
pixel_size_um = 0.65
perturbation = "Metadata_Compound"

# a comment that must survive
[[channels]]
name = "DNA"
stain = "Hoechst"
role = "nucleus"

[[channels]]
name = "Actin"

[images]
table = "images.csv"

[wells]
table = "wells.csv"

[imaging]
method = "otsu-log"

[[layers]]
name = "rna"
table = "rna.csv"
kind = "abundance"
scale = "log"
key = ["Metadata_Plate", "Metadata_Well"]

[[features]]
name = "ready"
table = "profiles.csv"
"""

WELLS = ("A01", "A02", "A03", "A04", "B01", "B02")


def wells_frame():
    return pd.DataFrame(
        {
            "Metadata_Plate": "001",
            "Metadata_Well": WELLS,
            "Metadata_pert_type": ["negcon", "negcon", "trt", "trt", "trt", "trt"],
            "Metadata_Compound": ["DMSO", "DMSO", "NA", "NA", "x-2", "x-10"],
            "Metadata_Concentration": [0, 0, 1.0, 10.0, 1.0, 1.0],
            "Metadata_Concentration_unit": "uM",
        }
    )


@pytest.fixture
def small(tmp_path):
    """Six wells, two channels, one site, one layer of three readouts, ready-made profiles."""
    folder = tmp_path / "a screen é"
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows = []
    for well in WELLS:
        for channel in ("DNA", "Actin"):
            name = f"images/{well}_{channel}.tif"
            tifffile.imwrite(folder / name, generator.integers(0, 4096, (12, 10), dtype=np.uint16))
            rows.append(("001", well, 1, channel, name, 0))
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Channel", "URI", "Plane"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "images.csv", index=False)
    wells_frame().to_csv(folder / "wells.csv", index=False)
    rna = pd.DataFrame({"Metadata_Plate": "001", "Metadata_Well": WELLS})
    for gene in ("<script>", 'a","b', "TP53"):
        rna[gene] = generator.normal(size=6)
    rna.to_csv(folder / "rna.csv", index=False)
    profiles = rna[["Metadata_Plate", "Metadata_Well"]].assign(area=generator.normal(size=6), n=range(6))
    profiles.to_csv(folder / "profiles.csv", index=False)
    (folder / "dataset.toml").write_text(TOML, encoding="utf-8")
    return folder


@pytest.fixture
def edit(small):
    """Replace text in a file of the small dataset; what is replaced must be there."""

    def replace(name, old, new, count=-1):
        path = small / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, count), encoding="utf-8")

    return replace


@pytest.fixture
def realdata():
    """The folder of public data sets, or a skip that says why."""
    folder = os.environ.get("WELLBENCH_REALDATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("WELLBENCH_REALDATA does not name a folder of public data sets")
    return Path(folder)
