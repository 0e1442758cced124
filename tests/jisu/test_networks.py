from __future__ import annotations

import subprocess
import sys

import pytest

from jisu import networks
from jisu.exporter.models.classifier import Classifier
from jisu.exporter.models.language_model import LanguageModel
from jisu.exporter.models.settings import ModelSettings


def test_the_names_are_those_of_the_exporter() -> None:
    assert networks.LanguageModel is LanguageModel
    assert networks.Classifier is Classifier
    assert networks.ModelSettings is ModelSettings


def test_settings_need_no_torch() -> None:
    code = "import sys; from jisu.networks import NETWORKS, ModelSettings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Perceptron'"):
        _ = networks.Perceptron  # type: ignore[attr-defined]
