"""A short run of the fuzzer; ``python -m tests.fuzz.fuzz_images`` is the full one."""

import pytest

from tests.fuzz.fuzz_images import FORMATS, fuzz, make_mutation

MUTATIONS = 300


@pytest.mark.parametrize("image_format", FORMATS)
def test_no_mutation_crashes_hangs_or_raises_an_undocumented_error(image_format: str) -> None:
    verdicts = fuzz(image_format, MUTATIONS, seed=17)
    problems = [verdict for verdict in verdicts if verdict.problem]
    assert not problems, make_mutation(image_format, problems[0].index, 17).hex()
    outcomes = {verdict.outcome for verdict in verdicts}
    # Mutations that the guard refuses alike would test nothing.
    assert "ok" in outcomes
    assert len(outcomes) > 10
