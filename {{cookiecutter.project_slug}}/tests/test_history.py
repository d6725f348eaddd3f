"""The history goes into a backup whole, while the server runs."""

import pytest

from {{ cookiecutter.__package }}.config import Refused
from {{ cookiecutter.__package }}.ops import history


@pytest.mark.usefixtures("tracking_server")
def test_a_backup_is_whole_and_a_cut_one_is_refused():
    file = history.backup()
    assert history.unpack(file, "Reading")["rows"] == history.rows(history.database())

    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(Refused, match="no whole backup"):
        history.unpack(file, "Reading")
