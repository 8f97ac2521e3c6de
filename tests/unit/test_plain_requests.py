"""What is taken without asking the schema, the schema takes as well."""

import numpy as np
import pytest

from app.api import schemas
from app.inference.scores import rank

IMAGES: list[object] = ["", "abc", None, 1, True, [], {}]
TOP_NUMS: list[object] = [None, 1, 6, 10**30, 0, -1, 5.0, 5.5, True, False, "5", "", [], {}]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("top_num", TOP_NUMS)
def test_a_plain_request_is_a_valid_one(image: object, top_num: object) -> None:
    payload = {"image": image, "top_num": top_num, "more": 1}
    if schemas._is_plain(payload):
        assert schemas._VALIDATOR.is_valid(payload)
        assert schemas.validate_classify_request(payload).image == image


def test_what_most_callers_send_is_plain() -> None:
    assert schemas._is_plain({"image": "abc"})
    assert schemas._is_plain({"image": "abc", "top_num": 6})


@pytest.mark.parametrize("top_num", [1, 2, 3, 7, 16, 17, 999, 1000, 1001, 10**9])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_classes_come_by_score_and_equal_ones_by_index(top_num: int, levels: int) -> None:
    scores = np.random.default_rng(levels).integers(0, levels, 1000).astype(np.float32)
    labels = [str(index) for index in range(scores.size)]
    wanted = sorted(range(scores.size), key=lambda index: (-scores[index], index))[:top_num]
    assert [row["name"] for row in rank(scores, labels, top_num)] == [str(i) for i in wanted]
