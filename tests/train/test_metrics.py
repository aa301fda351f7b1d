"""What the lines of ``metrics.jsonl`` are computed from."""

import io
import json

from alp_jax.train.metrics import MetricsLog


def test_shares_are_those_of_the_steps_since_the_last_line(tmp_path):
    log = MetricsLog(tmp_path, 4, 0, io.StringIO())
    for step, (clips, cut) in enumerate([(8, 2), (8, 0), (4, 4), (8, 2)]):
        log.count(0.0, clips, 5.0, 8.0 if step < 2 else 10.0, cut)
        if step % 2:
            log.write(step, {"loss": 1.0})
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["truncated_caption_share"] for line in lines] == [2 / 16, 6 / 12]
    assert [line["padding_share"] for line in lines] == [1 - 10 / 16, 1 - 10 / 20]
