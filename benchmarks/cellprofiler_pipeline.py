"""A field as files that real CellProfiler reads, and a pipeline with all its measurement modules.

Objects are given as label images, so that segmentation plays no part; settings are those of the JUMP pipeline
(granularity subsampled to a half, 15 % threshold, four rings, scales 3, 5 and 10), and what JUMP leaves out
(Costes, advanced shapes, intensity Zernikes) is on.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tifffile

from bench.sidecar import Done, run_pipeline

OBJECTS = ("Nuclei", "Cells", "Cytoplasm")
NEIGHBORS = (
    ("Cells", "Within a specified distance", 5),
    ("Nuclei", "Within a specified distance", 1),
    ("Cells", "Adjacent", 1),
    ("Cells", "Expand until adjacent", 1),
)
Settings = list[tuple[str, object]]


def measure(
    pixels: np.ndarray,
    masks: Mapping[str, np.ndarray],
    channels: Sequence[str],
    folder: Path,
    sets: int = 1,
    scales: Sequence[int] = (3, 5, 10),
) -> Done:
    """Run CellProfiler on one field, ``sets`` times in one process; its CSV files stand in ``folder/out``.

    ``pixels`` (C, H, W) lie on the 16-bit grid in [0, 1]; ``masks`` are label images without gaps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row: dict[str, object] = {}
    for name, plane in zip(channels, pixels, strict=True):
        levels = np.rint(plane * 65535).astype(np.uint16)
        if not np.array_equal(levels / 65535, plane):
            msg = f"channel {name} is not on the 16-bit grid, so that a file cannot hold it"
            raise ValueError(msg)
        tifffile.imwrite(folder / f"{name}.tiff", levels)
        row |= {f"FileName_{name}": f"{name}.tiff", f"PathName_{name}": str(folder.absolute())}
    for name, mask in masks.items():
        tifffile.imwrite(folder / f"{name}_labels.tiff", mask.astype(np.uint16))
        row |= {f"ObjectsFileName_{name.capitalize()}": f"{name}_labels.tiff"}
        row |= {f"ObjectsPathName_{name.capitalize()}": str(folder.absolute())}
    with (folder / "load_data.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, [*row, "Metadata_Plate", "Metadata_Well", "Metadata_Site"])
        table.writeheader()
        for site in range(1, sets + 1):
            table.writerow(row | {"Metadata_Plate": "P1", "Metadata_Well": "A01", "Metadata_Site": site})
    pipeline = folder / "measure.cppipe"
    pipeline.write_text(pipeline_text(channels, scales), encoding="utf-8")
    return run_pipeline(pipeline, folder / "out", data_file=folder / "load_data.csv")


def pipeline_text(channels: Sequence[str], scales: Sequence[int]) -> str:
    """Return the pipeline as a ``.cppipe``; every module's settings stand in the order of its source."""
    images, objects = ", ".join(channels), ", ".join(OBJECTS)
    modules: list[tuple[str, int, Settings]] = [
        ("LoadData", 6, _load()),
        ("MeasureColocalization", 5, _colocalization(images, objects)),
        ("MeasureGranularity", 4, _granularity(images, objects)),
        (
            "MeasureObjectIntensity",
            4,
            [("Select images to measure", images), ("Select objects to measure", objects)],
        ),
        ("MeasureImageIntensity", 4, _image_intensity(images)),
        *(("MeasureObjectNeighbors", 3, _neighbors(*setting)) for setting in NEIGHBORS),
        ("MeasureObjectIntensityDistribution", 6, _distribution(images)),
        (
            "MeasureObjectSizeShape",
            3,
            [
                ("Select object sets to measure", objects),
                ("Calculate the Zernike features?", "Yes"),
                ("Calculate the advanced features?", "Yes"),
            ],
        ),
        ("MeasureTexture", 7, _texture(images, objects, scales)),
        ("ExportToSpreadsheet", 13, _export()),
    ]
    lines = [
        "CellProfiler Pipeline: http://www.cellprofiler.org",
        "Version:5",
        "DateRevision:428",
        "GitHash:",
        f"ModuleCount:{len(modules)}",
        "HasImagePlaneDetails:False",
        "",
    ]
    for number, (name, revision, settings) in enumerate(modules, 1):
        lines.append(
            f"{name}:[module_num:{number}|svn_version:'Unknown'|variable_revision_number:{revision}|"
            "show_window:False|notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]"
        )
        lines += [f"    {key}:{value}" for key, value in settings]
        lines.append("")
    return "\n".join(lines)


def _load() -> Settings:
    return [
        ("Input data file location", "Elsewhere...|"),
        ("Name of the file", "load_data.csv"),
        ("Load images based on this data?", "Yes"),
        ("Base image location", "Default Input Folder|"),
        ("Process just a range of rows?", "No"),
        ("Rows to process", "1,100000"),
        ("Group images by metadata?", "No"),
        ("Select metadata tags for grouping", ""),
        ("Rescale intensities?", "Yes"),
    ]


def _colocalization(images: str, objects: str) -> Settings:
    return [
        ("Select images to measure", images),
        ("Set threshold as percentage of maximum intensity for the images", "15.0"),
        ("Select where to measure correlation", "Within objects"),
        ("Select objects to measure", objects),
        ("Run all metrics?", "Yes"),
        ("Calculate correlation and slope metrics?", "Yes"),
        ("Calculate the Manders coefficients?", "Yes"),
        ("Calculate the Rank Weighted Colocalization coefficients?", "Yes"),
        ("Calculate the Overlap coefficients?", "Yes"),
        ("Calculate the Manders coefficients using Costes auto threshold?", "Yes"),
        ("Method for Costes thresholding", "Faster"),
    ]


def _granularity(images: str, objects: str) -> Settings:
    return [
        ("Select images to measure", images),
        ("Measure within objects?", "Yes"),
        ("Select objects to measure", objects),
        ("Subsampling factor for granularity measurements", "0.5"),
        ("Subsampling factor for background reduction", "0.5"),
        ("Radius of structuring element", "10"),
        ("Range of the granular spectrum", "16"),
    ]


def _image_intensity(images: str) -> Settings:
    return [
        ("Select images to measure", images),
        ("Measure the intensity only from areas enclosed by objects?", "No"),
        ("Select input object sets", ""),
        ("Calculate custom percentiles", "No"),
        ("Specify percentiles to measure", "10,90"),
    ]


def _neighbors(objects: str, method: str, distance: int) -> Settings:
    return [
        ("Select objects to measure", objects),
        ("Select neighboring objects to measure", objects),
        ("Method to determine neighbors", method),
        ("Neighbor distance", distance),
        ("Consider objects discarded for touching image border?", "Yes"),
        ("Retain the image of objects colored by numbers of neighbors?", "No"),
        ("Name the output image", "ObjectNeighborCount"),
        ("Select colormap", "Blues"),
        ("Retain the image of objects colored by percent of touching pixels?", "No"),
        ("Name the output image", "PercentTouching"),
        ("Select colormap", "Oranges"),
    ]


def _distribution(images: str) -> Settings:
    chosen: Settings = [
        ("Select images to measure", images),
        ("Hidden", len(OBJECTS)),
        ("Hidden", 1),
        ("Hidden", 0),
        ("Calculate intensity Zernikes?", "Magnitudes and phase"),
        ("Maximum zernike moment", 9),
    ]
    for name in OBJECTS:
        chosen += [
            ("Select objects to measure", name),
            ("Object to use as center?", "These objects"),
            ("Select objects to use as centers", "None"),
        ]
    return [*chosen, ("Scale the bins?", "Yes"), ("Number of bins", 4), ("Maximum radius", 100)]


def _texture(images: str, objects: str, scales: Sequence[int]) -> Settings:
    chosen: Settings = [
        ("Select images to measure", images),
        ("Select objects to measure", objects),
        ("Enter how many gray levels to measure the texture at", 256),
        ("Hidden", len(scales)),
        ("Measure whole images or objects?", "Both"),
    ]
    return chosen + [("Texture scale to measure", scale) for scale in scales]


def _export() -> Settings:
    return [
        ("Select the column delimiter", 'Comma (",")'),
        ("Add image metadata columns to your object data file?", "No"),
        ("Add image file and folder names to your object data file?", "No"),
        ("Select the measurements to export", "No"),
        ("Calculate the per-image mean values for object measurements?", "No"),
        ("Calculate the per-image median values for object measurements?", "No"),
        ("Calculate the per-image standard deviation values for object measurements?", "No"),
        ("Output file location", "Default Output Folder|"),
        ("Create a GenePattern GCT file?", "No"),
        ("Select source of sample row name", "Metadata"),
        ("Select the image to use as the identifier", "None"),
        ("Select the metadata to use as the identifier", "None"),
        ("Export all measurement types?", "Yes"),
        ("Press button to select measurements", ""),
        ("Representation of Nan/Inf", "NaN"),
        ("Add a prefix to file names?", "No"),
        ("Filename prefix", ""),
        ("Overwrite existing files without warning?", "Yes"),
        ("Data to export", "Do not use"),
        ("Combine these object measurements with those of the previous object?", "No"),
        ("File name", "DATA.csv"),
        ("Use the object name for the file name?", "Yes"),
    ]
