import time

from seq2seq import logbook
from seq2seq.logbook import Logbook


def test_a_resumed_bar_measures_its_own_speed_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logbook, "refresh_seconds", lambda: 0.0)
    with Logbook(tmp_path, 1000, progress=True) as book:
        for update in range(1001, 1004):
            time.sleep(0.02)
            book.show(update, 2000, loss="1.0")
        shown = book.bar.format_dict
        assert shown["n"] == 1003
        assert 0 < shown["rate"] <= 1 / 0.02
    assert "1003/2000" in capsys.readouterr().err
