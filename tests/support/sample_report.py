"""A report with every kind of block and thirty questions, some of whose texts are markup, control characters or emoji."""

import math
from typing import Any

from qa_accel.reporting.blocks import (
    Code,
    Curve,
    Explorer,
    Figure,
    Report,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
)

SCRIPT = "<script>document.title = 'ran'</script>"
IMAGE = '"><img src=x onerror="document.title = \'ran\'">'

PARIS = (
    "🌳🌳 The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France. It is named after the "
    "engineer Gustave Eiffel, whose company designed and built the tower from 1887 to 1889. Locally nicknamed “La dame "
    "de fer”, it was the centrepiece of the 1889 World's Fair, and to crown the centennial anniversary of the French "
    "Revolution. Although initially criticised by some of France's leading artists, it has since become a global "
    "cultural icon of France. The tower received 5,889,000 visitors in 2022 and is 330 metres tall."
)
RIVER = (
    "The Amazon in South America is the largest river by discharge volume of water in the world. Its drainage basin "
    "covers about 7,000,000 square kilometres. The headwaters of the Apurímac River on Nevado Mismi had been considered "
    "for nearly a century the Amazon basin's most distant source, until a 2014 study found it to be the headwaters of "
    "the Mantaro River on the Cordillera Rumi Cruz in Peru."
)
HEBREW = "ירושלים היא עיר הבירה של מדינת ישראל והעיר הגדולה ביותר בה. העיר נמצאת בהרי יהודה."
ARABIC = "القاهرة هي عاصمة جمهورية مصر العربية وأكبر مدنها. يمر بها نهر النيل."
HOSTILE = f"A {SCRIPT} & </script> <b>bold</b> {IMAGE} a lone half \ud800, a zero \x00, an escape \x1b[31m, \u202eover\u202c, end."
ACCENTS = "The cafe\u0301 Na\u0308he opened in 1901. A family 👩\u200d👩\u200d👧 runs it."
KINDS = (
    ("right", "Right", 4213),
    ("boundary", "Boundary only", 402),
    ("wrong", "Wrong span", 388),
    ("missed", "Missed answer", 511),
    ("unanswerable", "Answered the unanswerable", 564),
)
FAMILIES = (
    ("word", "Question word", ("what", "who", "when", "how many", "other")),
    ("length", "Answer length", ("none", "1 word", "2 to 4 words")),
    ("title", "Title", ("Eiffel Tower", "Amazon", "ירושלים", SCRIPT, "a=b")),
)


def place(context: str, text: str) -> tuple[int, int]:
    """Of its first occurrence, in Python characters."""
    start = context.index(text)
    return start, start + len(text)


def question(
    id: str,
    asked: str,
    context: int,
    gold: list[str],
    predicted: str,
    kind: str,
    title: str = "Eiffel Tower",
    other: str | None = None,
    flip: str | None = None,
    confidence: float | None = 0.5,
    **more: Any,
) -> dict[str, Any]:
    """One as `blocks.Explorer` describes it; places are those of the first occurrences in the context."""
    text = CONTEXTS[context]

    def span(words: str) -> dict[str, Any]:
        start, end = place(text, words) if words else (None, None)
        return {"text": words, "start": start, "end": end}

    exact = float(predicted in gold or (not gold and not predicted))
    best = dict.fromkeys([predicted, *gold, ""])
    shares = [0.72, 0.2, 0.05, 0.02, 0.01]
    nbest = [
        {"text": words, "probability": share, "confidence": None if confidence is None else confidence * share}
        for words, share in zip(best, shares)
    ]
    compared = None
    if other is not None:
        right = float(other in gold or (not gold and not other))
        scores = {"kind": "right" if right else "wrong", "exact": right, "f1": right}
        compared = span(other) | scores
    word = next((word for word in ("what", "who", "when", "how many") if asked.lower().startswith(word)), "other")
    length = "none" if not gold else "1 word" if " " not in gold[0] else "2 to 4 words"
    made = {
        "id": id,
        "row": 0,
        "question": asked,
        "title": title,
        "context": context,
        "left_out": [],
        "gold": [[*place(text, words), words] for words in gold],
        "predicted": span(predicted),
        "kind": kind,
        "slices": {"word": word, "length": length, "title": title},
        "exact": exact,
        "f1": exact or 0.4,
        "null_odds": -4.25 if predicted else 6.5,
        "confidence": confidence,
        "nbest": nbest,
        "windows": [[0, len(text)]],
        "other": compared,
        "flip": flip,
    }
    return made | more


CONTEXTS = (PARIS, RIVER, HEBREW, ARABIC, HOSTILE, ACCENTS)


def questions() -> list[dict[str, Any]]:
    made = [
        question(
            "q-golds",
            "Who designed the tower?",
            0,
            ["Gustave Eiffel", "engineer Gustave Eiffel", "Eiffel, whose company"],
            "the engineer Gustave Eiffel",
            "boundary",
            other="Gustave Eiffel",
            flip="worse",
            confidence=0.91,
            windows=[[0, 240], [180, len(PARIS)]],
            left_out=[[len(PARIS), 1234]],
        ),
        question("q-tall", "How many metres tall is it?", 0, ["330"], "330", "right", other="5,889,000", flip="better"),
        question("q-missed", "When was the World's Fair?", 0, ["1889"], "", "missed", confidence=0.88),
        question("q-hebrew", "מהי עיר הבירה של ישראל?", 2, ["ירושלים"], "מדינת ישראל", "wrong", title="ירושלים"),
        question("q-arabic", "ما هي عاصمة مصر؟", 3, ["القاهرة"], "القاهرة", "right", title="a=b"),
        question("q-accent", "What opened in 1901?", 5, ["cafe"], "family 👩", "wrong", confidence=0.97),
        question(f"q-{SCRIPT}", f"{SCRIPT} What is {IMAGE}?", 4, ["bold"], "</script>", "wrong", title=SCRIPT),
        question(
            "q-unknown",
            "What is above all?",
            1,
            [],
            "South America",
            "unanswerable",
            title="Amazon",
            confidence=None,
            null_odds=float("inf"),
        ),
    ]
    made[0]["gold"].append(made[0]["gold"][0])  # two people marked the same
    rivers = [
        ("What is the largest river?", "Amazon", "Amazon", "right"),
        ("How many square kilometres does the basin cover?", "7,000,000", "7,000,000 square kilometres", "boundary"),
        ("Which study found the source?", "2014", "Nevado Mismi", "wrong"),
        ("Who measured it first?", "", "", "right"),
    ]
    for number in range(22):
        asked, gold, predicted, kind = rivers[number % 4]
        sure = round(0.3 + 0.025 * number, 3)
        made.append(
            question(f"river-{number}", asked, 1, [gold] if gold else [], predicted, kind, "Amazon", None, None, sure)
        )
    return [asked | {"row": row} for row, asked in enumerate(made)]


def explorer() -> Explorer:
    return Explorer(
        total=6078,
        chosen="All errors among the first 3,000 questions, then questions that are right, at random.",
        threshold=1.25,
        kinds=KINDS,
        families=FAMILIES,
        contexts=CONTEXTS,
        questions=questions(),
        names=("this run", "baseline <b>"),
    )


def figures() -> list[Figure]:
    steps = list(range(0, 2000, 10))
    loss = [3.5 * math.exp(-step / 400) + 0.9 + 0.08 * math.sin(step / 30) for step in steps]
    shares = [number / 10 + 0.05 for number in range(10)]
    limits = [-10 + number / 10 for number in range(200)]

    def at(limit: float, top: float) -> float:
        return 50 + (top - 50) * math.exp(-((limit - 1.2) ** 2) / 30)

    return [
        Figure(
            "loss",
            "Loss in training",
            "Optimizer step",
            "Loss",
            [Curve("training", steps, loss), Curve("validation", steps[::20], [1.1 * y for y in loss[::20]], "dots")],
            note="The loss falls until step 1,500 and stays there.",
        ),
        Figure(
            "threshold",
            "Scores against the no-answer threshold",
            "Threshold (null odds)",
            "Score",
            [
                Curve(
                    "F1",
                    limits,
                    [at(x, 81) for x in limits],
                    "band",
                    [at(x, 81) - 1 for x in limits],
                    [at(x, 81) + 1 for x in limits],
                ),
                Curve("exact match", limits, [at(x, 78) for x in limits], dashed=True),
            ],
            {"stored": 1.25, "best": 1.9, "zero": 0.0},
            note="Between 0 and 3 the choice of the threshold changes F1 by less than half a point.",
            y_range=(40, 90),
        ),
        Figure(
            "reliability",
            "Confidence against share of right answers",
            "Confidence",
            "Share right",
            [Curve("answers", shares, [x**1.2 for x in shares], "bars"), Curve("ideal", [0, 1], [0, 1], dashed=True)],
            note="Bars below the line: the model is too sure.",
            y_range=(0, 1),
        ),
        Figure(
            "kinds",
            "Kinds of answers & <b>names</b>",
            "",
            "Questions",
            [
                Curve(f"this {SCRIPT}", [name for _, name, _ in KINDS], [number for *_, number in KINDS], "bars"),
                Curve("other", [name for _, name, _ in KINDS], [0.9 * number for *_, number in KINDS], "bars"),
            ],
        ),
        Figure("gradient", "Gradient norm", "Step", "Norm", [Curve("norm", steps, [y**3 for y in loss])]),
    ]


def sample_report() -> Report:
    loss, threshold, reliability, kinds, gradient = figures()
    scores = Tiles(
        [
            Tile("Exact match", "77.4", "95 %: 76.2 to 78.6"),
            Tile("F1", "80.6", "95 %: 79.5 to 81.7"),
            Tile("Questions", "6,078", "in 1,204 paragraphs"),
            Tile("Duration", "1 h 12 min", "one H100"),
        ]
    )
    rows = [["threshold 0", 76.912, 80.25, None], ["stored", 77.4, 80.6, 1.25], ["best", 77.45, 80.71, 1.9]]
    settings = [["learning_rate", "3e-05", "5e-05"], ["weight_decay", "0.01", "0.0"], [IMAGE, SCRIPT, "\x1b[31m"]]
    slices = [
        ["Question word", "how many", 6, 50.0, 61.25, "yes"],
        ["Title", SCRIPT, 1, 0.0, 40.0, "no"],
        ["Title", "a=b", 1, 100.0, 100.0, "no"],
    ]
    filters = [{"slice": "word=how many"}, {"slice": f"title={SCRIPT}"}, {"slice": "title=a=b"}]
    return Report(
        title=f"minilm on SQuAD v2 {SCRIPT}",
        subtitle="validation split, 6,078 questions, 27 November 2026",
        sections=[
            Section(
                "run",
                "What ran",
                [
                    scores,
                    Text("A BERT of 6 layers was trained for two epochs.\n\nTexts have paragraphs."),
                    Table(
                        "Settings that differ from the defaults", ["Setting", "Value", "Default"], settings, open=False
                    ),
                    Code(
                        "accelerate launch scripts/train.py --config scripts/recipes/quickstart.yaml --learning_rate 3e-5 --output_dir runs/quickstart"
                    ),
                ],
            ),
            Section(
                "scores", "Scores", [Table("Scores by threshold", ["At", "EM", "F1", "Threshold"], rows), threshold]
            ),
            Section("curves", "Training curves", [loss, gradient]),
            Section(
                "calibration", "Calibration", [reliability, Text("The data was seen in training.", is_warning=True)]
            ),
            Section(
                "errors",
                "Errors",
                [
                    Text("One slice differs from the rest beyond chance."),
                    kinds,
                    Table(
                        "Kinds of answers",
                        ["Kind", "Questions"],
                        [[name, number] for _, name, number in KINDS],
                        [{"kind": id} for id, _, _ in KINDS],
                    ),
                    Table("Slices", ["Family", "Value", "Questions", "EM", "F1", "Beyond chance"], slices, filters),
                ],
            ),
        ],
        explorer=explorer(),
    )
