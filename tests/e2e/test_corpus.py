"""Every file of the corpus through a running server."""

import psutil

from tests.support.images import to_base64
from tests.support.server import Server
from tests.unit.test_corpus import CORPUS, MANIFEST, expected_outcomes

MAX_GROWTH_BYTES = 250 * 2**20


def test_one_worker_answers_every_file_as_expected(server: Server) -> None:
    pids = server.worker_pids()
    worker = psutil.Process(pids[0])
    before = worker.memory_info().rss
    wrong, log_ids = [], {}
    for path in MANIFEST:
        answer = server.classify("colours", {"image": to_base64((CORPUS / path).read_bytes())})
        outcome = str(answer.code) if answer.code else "ok"
        if outcome not in expected_outcomes(path):
            wrong.append((path, outcome, answer.detail))
        if answer.code:
            log_ids[answer.json["log_id"]] = path
    for line in server.log_lines():
        if line.get("log_id") in log_ids and line["detail"]:
            del log_ids[line["log_id"]]
    assert not log_ids, "no detail in the log"
    assert not wrong
    assert server.worker_pids() == pids
    assert worker.memory_info().rss - before < MAX_GROWTH_BYTES
