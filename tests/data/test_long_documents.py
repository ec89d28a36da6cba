"""Questions on documents so long that their contexts together pass 2**31 bytes, the limit of Arrow's 32-bit offsets."""

import json

from toy_questions import TINY
from toy_tokenizers import FAMILIES

from qa_accel.data.audit import audit_questions
from qa_accel.data.questions import DataConfig, load_questions
from qa_accel.data.window_cache import prepare_windows


def test_many_questions_on_long_documents_are_read_audited_and_windowed(tmp_path):
    """2,200 questions on two reports of a million characters, a file of 2.3 MB. Breaks if contexts are copied for each
    question (2.3 GB of cache), or put in one Arrow array of 32-bit offsets (a traceback)."""
    lines = "".join(f"Item {number} cost {7 * number} crowns. " for number in range(36_000))
    articles = []
    for name in ("east", "west"):
        context = f"Report of the {name}. {lines}"
        questions = [
            {
                "id": f"{name} {number}",
                "question": f"What did item {number} cost?",
                "answers": [
                    {
                        "text": f"{7 * number} crowns",
                        "answer_start": context.index(f"Item {number} cost ") + len(f"Item {number} cost "),
                    }
                ],
            }
            for number in range(1100)
        ]
        articles.append({"title": name, "paragraphs": [{"context": context, "qas": questions}]})
    assert 2200 * len(lines) > 2**31
    (tmp_path / "reports.json").write_text(json.dumps({"data": articles}))

    config = DataConfig(train_file=(str(tmp_path / "reports.json"),), cache_dir=str(tmp_path / "cache"))
    questions, report = audit_questions(load_questions(config, "train"), training=True)
    assert (len(questions), report.contexts, report.misplaced_answers) == (2200, 2, ())
    (cached,) = (tmp_path / "cache").iterdir()
    assert cached.stat().st_size < 10 * len(lines)

    short = questions.select([0, 1, 2199])
    windows = prepare_windows(short, FAMILIES["wordpiece"](), TINY, cache_dir=tmp_path / "cache")
    labels = windows.start_W != windows.null_W
    assert sorted(set(windows.question_W[labels])) == [0, 1, 2]
