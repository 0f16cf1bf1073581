import pytest

from featurizers.base import FeaturizerError
from featurizers.cellprofiler import CellProfiler, CellProfilerConfig
from featurizers.cellprofiler.config import neighbor_setting
from featurizers.cellprofiler.names import column_names


def test_names_follow_cellprofilers_grammar():
    channels = ("DNA", "ER", "RNA", "AGP", "Mito")
    default = column_names(channels, CellProfilerConfig())
    full = column_names(channels, CellProfiler.presets["full"])
    assert len(set(full)) == len(full) == 5478
    assert len(default) == 3478
    assert set(default) < set(full)
    for name in (
        "Cells_Texture_InfoMeas1_RNA_3_00_256",
        "Nuclei_Correlation_Manders_AGP_DNA",
        "Nuclei_Correlation_Correlation_DNA_ER",
        "Cytoplasm_RadialDistribution_FracAtD_Mito_1of4",
        "Cells_Granularity_16_AGP",
        "Nuclei_AreaShape_Zernike_9_9",
        "Cells_Neighbors_NumberOfNeighbors_Adjacent",
        "Cells_Neighbors_PercentTouching_5",
        "Nuclei_Neighbors_FirstClosestDistance_1",
        "Nuclei_Location_CenterMassIntensity_X_ER",
        "Image_Count_Cells",
        "Image_Intensity_PercentMaximal_Mito",
    ):
        assert name in default, name
    assert "Cells_Correlation_Costes_DNA_ER" in full
    assert "Nuclei_RadialDistribution_ZernikePhase_DNA_5_1" in full
    assert not any("Costes" in n or "Cells_Location" in n or "HuMoment" in n for n in default)


@pytest.mark.parametrize(
    "settings",
    [
        {"compartments": ()},
        {"compartments": ("cells", "cells")},
        {"families": ("shape",)},
        {"cytoplasm": "none"},
        {"border": "cut"},
        {"quantiles": "exact"},
        {"texture_scales": ()},
        {"texture_levels": 1},
        {"granularity_subsample": 0.0},
        {"rings": 0},
        {"colocalization_threshold": 100.0},
        {"neighbors": ("cells within",)},
        {"neighbors": ("cells adjacent", "cells adjacent")},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(FeaturizerError, match="cellprofiler:"):
        CellProfilerConfig(**settings)


def test_neighbour_settings_are_read_as_written():
    assert neighbor_setting("cells within 5") == ("cells", "within", 5)
    assert neighbor_setting("nuclei adjacent") == ("nuclei", "adjacent", 1)
    assert neighbor_setting("cytoplasm expand") == ("cytoplasm", "expand", 1)


@pytest.mark.parametrize(
    "words", ["", "cells", "cells near", "cells within", "cells within 0", "image adjacent"]
)
def test_other_neighbour_settings_are_refused(words):
    with pytest.raises(FeaturizerError, match="neighbors are written"):
        neighbor_setting(words)
