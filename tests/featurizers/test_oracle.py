import numpy as np
import pytest

from featurizers.base import FeaturizerError, Field
from featurizers.oracle import Oracle, OracleConfig

CONFIG = OracleConfig(states=("Latent_size", "Latent_count"))


def test_the_states_come_back_in_the_order_of_the_config():
    fields = [Field({"Latent_count": i, "Latent_size": i / 2, "Latent_other": 9.0}, ()) for i in range(3)]
    oracle = Oracle(CONFIG)
    assert oracle.columns(()) == ("Latent_size", "Latent_count")
    assert oracle.embed(fields).values.tolist() == [[0, 0], [0.5, 1], [1, 2]]


def test_a_real_screen_is_refused_by_the_missing_state():
    field = Field({"Metadata_Plate": "P1", "Metadata_Well": "C03", "Latent_size": 1.0}, ())
    with pytest.raises(FeaturizerError, match=r"plate P1 well C03: no latent state Latent_count; only a sim"):
        Oracle(CONFIG).embed([field])


def test_a_missing_value_is_refused():
    field = Field({"Latent_count": np.nan, "Latent_size": 1.0}, ())
    with pytest.raises(FeaturizerError, match="latent state Latent_count is nan"):
        Oracle(CONFIG).embed([field])


@pytest.mark.parametrize("states", [(), ("Metadata_Compound",), ("Latent_a", "Latent_a")])
def test_only_latent_states_can_be_asked_for(states):
    with pytest.raises(FeaturizerError, match="distinct names that begin with 'Latent_'"):
        OracleConfig(states=states)
