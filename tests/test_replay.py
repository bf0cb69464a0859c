"""Stored estimates: a change of any term shows here with its table; a refactor shows none.

`python tests/tools/replay.py` prints the table; with `--write` it stores the new terms, which belong into the same
commit as the reason why they changed.
"""

import json

import pytest
from tools import replay

TOPICS = [topic for topic, file in replay.FILES.items() if file.is_file()]


@pytest.mark.parametrize("topic", TOPICS)
def test_no_term_has_changed(topic):
    rows = replay.differences(replay.stored(topic), replay.now(topic))
    table = "\n".join(rows[:40])
    assert not rows, f"{len(rows)} terms changed; the first:\n{table}\nstore them with tests/tools/replay.py --write"


def test_there_are_enough_and_the_file_is_small():
    found = replay.stored()
    assert len(found) >= 200
    assert len([terms for terms in found.values() if "error" not in terms]) >= 0.8 * len(found)
    assert replay.FILES["inference"].stat().st_size < 1_000_000


def test_training_cases_cover_what_training_depends_on():
    found = replay.now("training")
    assert len(found) >= 50
    assert len([terms for terms in found.values() if "error" not in terms]) >= 0.7 * len(found)
    for terms in found.values():
        json.dumps(terms, allow_nan=False)


def test_differences_name_the_term():
    old = {("m", "c"): {"weights.q": 100, "worst": "a", "gone": 1}}
    new = {("m", "c"): {"weights.q": 110, "worst": "b", "new": 2}, ("n", "c"): {"x": 1}}
    rows = [row.split() for row in replay.differences(old, new)]
    assert rows == [["m", "c", "weights.q", "100", "110", "+10.000%"], ["m", "c", "worst", "a", "b"], ["m", "c",
                    "gone", "1", "None"],
                    ["m", "c", "new", "None", "2"], ["n", "c", "x", "None", "1"]]  # fmt: skip
    assert replay.differences(old, old) == []


def test_stored_terms_are_plain():
    for terms in replay.stored().values():
        json.dumps(terms, allow_nan=False)
