"""Focus and saturation: the measures against their definitions, and which fields are flagged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from bench.imaging.quality import FLAG, FLAGGED, Quality, by_well, flags, measure, power_slope


def texture(seed: int, shape=(128, 160), blur: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return np.round(ndimage.gaussian_filter(noise, blur) * 3000 + 20000).clip(0, 65535).astype(np.uint16)


def naive_slope(plane: np.ndarray) -> float:
    """The definition, frequency by frequency over the whole spectrum."""
    grey = plane.astype(float) - plane.mean()
    spectrum = np.abs(np.fft.fft2(grey)) ** 2
    height, width = plane.shape
    top = int(min(plane.shape) / 8)
    sums = dict.fromkeys(range(2, top), 0.0)
    for u in range(height):
        for v in range(width):
            radius = int(np.floor(np.hypot(min(u, height - u), min(v, width - v)))) + 1
            if radius in sums:
                sums[radius] += spectrum[u, v]
    return float(np.polyfit(np.log(list(sums)), np.log(list(sums.values())), 1)[0])


@pytest.mark.parametrize("shape", [(64, 64), (63, 80), (97, 71)])
def test_the_slope_is_that_of_the_summed_spectrum(shape):
    plane = texture(1, shape)
    assert power_slope(plane) == pytest.approx(naive_slope(plane), abs=1e-4)


def test_blur_makes_the_slope_steeper_and_brightness_does_not():
    plane = texture(2).astype(float)
    slopes = [power_slope(ndimage.gaussian_filter(plane, blur)) for blur in (0, 2, 4, 8)]
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[0] - slopes[-1] > 0.5
    assert power_slope(plane * 7 + 100) == pytest.approx(slopes[0], abs=1e-4)


def test_saturation_is_the_share_of_pixels_at_full_scale():
    pixels = np.zeros((2, 40, 40), np.uint16)
    pixels[0, :10] = 4095
    found = measure(pixels, ("DNA", "ER"), 4095.0)
    assert found["qc_saturated_DNA"] == 0.25
    assert found["qc_saturated_ER"] == 0.0
    assert np.isnan(found["qc_focus_ER"])


def plate_of(fields: int = 24) -> pd.DataFrame:
    rows = [measure(texture(i)[None], ("DNA",), 65535.0) for i in range(fields)]
    wells = [f"A{1 + i // 2:02d}" for i in range(fields)]
    return pd.DataFrame([{"Metadata_Well": w, **r} for w, r in zip(wells, rows, strict=True)])


def test_of_a_plate_the_blurred_the_saturated_and_the_blank_field_are_flagged_and_no_other():
    fields = plate_of()
    blurred = ndimage.gaussian_filter(texture(0).astype(float), 6)
    burnt = texture(0)
    burnt[:30] = 65535
    for row, plane in ((3, blurred), (5, np.zeros((128, 160)))):
        fields.loc[row, ["qc_focus_DNA", "qc_saturated_DNA"]] = list(
            measure(plane[None], ("DNA",), 65535.0).values()
        )
    fields.loc[9, "qc_saturated_DNA"] = measure(burnt[None], ("DNA",), 65535.0)["qc_saturated_DNA"]
    found = flags(fields, Quality())
    assert {i: f for i, f in enumerate(found) if f} == {
        3: ["focus:DNA"],
        5: ["blank:DNA"],
        9: ["saturated:DNA"],
    }


def test_wells_get_means_shares_and_flags_in_words():
    fields = plate_of(8)
    fields.loc[2:3, "qc_saturated_DNA"] = [0.5, 0.3]
    wells = by_well(fields, Quality()).set_index("Metadata_Well")
    assert wells.loc["A02", "qc_saturated_DNA"] == pytest.approx(0.4)
    assert wells.loc["A02", FLAG] == "saturated:DNA x2"
    assert wells[FLAGGED].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert wells.loc["A01", FLAG] == ""


def test_thresholds_can_be_moved_and_switched_off():
    fields = plate_of(8)
    fields.loc[1, "qc_focus_DNA"] -= 2.0
    assert flags(fields, Quality())[1] == ["focus:DNA"]
    assert flags(fields, Quality(focus_mads=0.0))[1] == []
    assert all(flags(fields, Quality(saturated=0.0))[i] == [] for i in (0, 2))


def test_a_plate_of_equal_fields_flags_none():
    fields = plate_of(1)
    assert flags(pd.concat([fields] * 5), Quality()) == [[]] * 5
