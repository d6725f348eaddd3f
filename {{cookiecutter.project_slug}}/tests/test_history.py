"""The history goes into a backup whole, while the server runs."""

import pytest

from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import backup, history


@pytest.mark.usefixtures("tracking_server")
def test_a_backup_is_whole_and_a_cut_one_is_refused():
    file = backup.backup()
    assert backup.unpack(file, "Reading")["rows"] == history.row_counts(history.database())

    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not a complete backup"):
        backup.unpack(file, "Reading")
