"""``cellpose``: cells by a Cellpose network, from weights that the user has.

Cellpose-SAM (Pachitariu, Rariden & Stringer 2025) under Cellpose 4, or a network of Cellpose 3 (``cyto3``,
``nuclei``, one of the user's own; Stringer & Pachitariu 2025) under Cellpose 3. Neither version runs the
other's networks, so weights of the other kind are refused with what to install.

Nothing is ever downloaded: the weights are a file that is named, and their sha256, not their path, is part
of the key. Weights are loaded without executing anything in them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.datasets.tables import locate
from bench.errors import DatasetError
from bench.imaging.configs import TABLE
from bench.imaging.labels import Border, Objects, large_enough, nothing, renumbered

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CHANNELS = 3
SAM, THREE = "W2", "downsample."
"""What the weights of a Cellpose-SAM, and those of a Cellpose 3 network, are known by."""

MOST_CHANNELS_3 = 2
"""Channels of a Cellpose 3 network: what is segmented, and optionally the nuclei."""


@dataclass(frozen=True, slots=True)
class Cellpose:
    """Settings of ``cellpose``.

    Parameters
    ----------
    weights
        File of the weights, relative to the dataset's folder.
    mask
        What the network was trained to find, so what its mask is called.
    channels
        Channel names with commas between, up to three; empty takes the dataset's first three. A Cellpose 3
        network takes one, or two: what is segmented and the nuclei.
    diameter_px
        Diameter of a typical object; 0 leaves the field's scale as it is.
    flow_threshold
        Largest error of the flows of a mask that is kept.
    min_area_px
        Least area of an object.
    border
        ``keep`` objects that touch the edge of the field, or ``drop`` them.
    """

    weights: str = ""
    mask: Literal["cells", "nuclei", "objects"] = "cells"
    channels: str = ""
    diameter_px: float = 0.0
    flow_threshold: float = 0.4
    min_area_px: float = 15.0
    border: Border = "keep"


def check(config: Cellpose, names: tuple[str, ...], root: Path) -> list[int]:
    """Return the indices of the channels that are used; refuse unknown ones and weights that are not there.

    Raises
    ------
    DatasetError
        With what there is, or where weights come from.
    """
    given = tuple(n.strip() for n in config.channels.split(",")) if config.channels else names[:MOST_CHANNELS]
    for name in given:
        if name not in names:
            raise DatasetError(f"{TABLE}: there is no channel {name!r}; channels: {', '.join(names)}")
    if len(given) > MOST_CHANNELS:
        raise DatasetError(
            f"{TABLE}: cellpose takes at most {MOST_CHANNELS} channels, not {config.channels!r}"
        )
    if not config.weights:
        raise DatasetError(
            f"{TABLE}: cellpose needs weights = the file of Cellpose-SAM's weights (cpsam_v2 from "
            "huggingface.co/mouseland/cellpose-sam); nothing is downloaded by itself"
        )
    path = Path(locate(root, config.weights))
    if not path.is_file():
        raise DatasetError(f"{TABLE}: weights {path} do not exist; copy Cellpose-SAM's there, or correct it")
    return [names.index(name) for name in given]


def sha256(config: Cellpose, root: Path) -> str:
    """Return the hash of the weights; a file is read again only when its size or time is new."""
    path = Path(locate(root, config.weights))
    status = path.stat()
    return _digest(str(path), status.st_size, status.st_mtime_ns)


def cellpose(pixels: NDArray[Any], config: Cellpose, root: Path) -> Objects:
    """Segment one field.

    Parameters
    ----------
    pixels
        (C, H, W) of the chosen channels, at most three.
    config
        Settings.
    root
        Folder of the dataset.

    Raises
    ------
    DatasetError
        When the weights are not those of a network that the installed Cellpose runs, or are of one that takes
        fewer channels.
    """
    from scipy import ndimage

    shape = pixels.shape[1:]
    if all(plane.min() == plane.max() for plane in pixels):
        return nothing(shape, (config.mask,))
    network, sam = _network(str(Path(locate(root, config.weights))), sha256(config, root))
    image, how = _for_sam(pixels) if sam else _for_three(pixels)
    found = network.eval(
        image,
        **how,
        diameter=config.diameter_px or None,
        flow_threshold=config.flow_threshold,
        min_size=int(config.min_area_px),
    )[0]
    labels = np.asarray(found, np.int64).reshape(shape)
    count = int(labels.max())
    kept = large_enough(labels, count, config.min_area_px, config.border)
    mask = renumbered(labels, kept)
    ids = np.arange(1, int(kept.sum()) + 1, dtype=np.int32)
    if not len(ids):
        return nothing(shape, (config.mask,))
    centres = np.asarray(ndimage.center_of_mass(mask > 0, mask, ids), np.float32)
    return Objects({config.mask: mask}, ids, centres)


def _for_sam(pixels: NDArray[Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return the image as Cellpose-SAM takes it, (H, W, 3), missing channels black, and how to call it."""
    full = np.zeros((*pixels.shape[1:], MOST_CHANNELS), np.float32)
    full[..., : len(pixels)] = np.moveaxis(pixels, 0, 2)
    return full, {"channel_axis": 2}


def _for_three(pixels: NDArray[Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return the image as Cellpose 3 takes it, and how to call it: its channels count from 1, 0 is grey."""
    if len(pixels) > MOST_CHANNELS_3:
        raise DatasetError(
            f"{TABLE}: these weights of Cellpose 3 take one channel, or two (what is segmented, the nuclei), "
            f"not {len(pixels)}; name them in channels"
        )
    if len(pixels) == 1:
        return pixels[0].astype(np.float32), {"channels": [0, 0]}
    return np.moveaxis(pixels, 0, 2).astype(np.float32), {"channels": [1, 2], "channel_axis": 2}


@functools.lru_cache(maxsize=4)
def _digest(path: str, _size: int, _mtime_ns: int) -> str:
    from bench.store import file_digest

    return file_digest(path)


@functools.lru_cache(maxsize=1)
def _network(path: str, _sha256: str) -> tuple[Any, bool]:
    """Return the network, on the GPU where there is one, and whether it is a Cellpose-SAM.

    It computes in float32, so that devices agree but for last bits.
    """
    import torch

    keys = _names(path)
    sam = SAM in keys
    from featurizers.vision import import_torchvision

    import_torchvision()
    from cellpose import models

    precision = {"use_bfloat16": False} if sam else {}
    network = models.CellposeModel(gpu=torch.cuda.is_available(), pretrained_model=path, **precision)
    absent = set(network.net.state_dict()) - keys
    if absent:
        raise DatasetError(
            f"{path} lacks {len(absent)} of the network's weights, e.g. {min(absent)}; copy it again"
        )
    return network, sam


def check_weights(config: Cellpose, root: Path) -> None:
    """Refuse a file without weights that the installed Cellpose runs, without building the network.

    Raises
    ------
    DatasetError
        When the file is damaged, or holds another network's weights.
    """
    _names(str(Path(locate(root, config.weights))))


def _names(path: str) -> set[str]:
    """Return the names of the weights in a file of a network that the installed Cellpose runs."""
    import pickle
    from importlib import metadata

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        keys = {name.removeprefix("module.") for name in state}
    except (RuntimeError, OSError, TypeError, pickle.UnpicklingError) as error:
        raise DatasetError(
            f"{path} holds no weights ({str(error).splitlines()[0]}); copy it again"
        ) from error
    three = any(name.startswith(THREE) for name in keys)
    if SAM not in keys and not three:
        raise DatasetError(
            f"{path} holds no Cellpose network; name the file of cpsam, or of Cellpose 3's weights"
        )
    installed = metadata.version("cellpose")
    major = int(installed.split(".")[0])
    if three and major > 3:
        raise DatasetError(
            f"{path} holds a Cellpose 3 network, which the installed Cellpose {installed} cannot run; use "
            "weights of cpsam, or an environment with 'cellpose<4' and 'numpy<2.1', or segment elsewhere and "
            "set method = 'masks'"
        )
    if not three and major < 4:
        raise DatasetError(
            f"{path} holds a Cellpose-SAM network, which the installed Cellpose {installed} cannot run; "
            "install 'cellpose>=4', or use weights of Cellpose 3"
        )
    return keys
