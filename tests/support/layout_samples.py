"""A small file of each layout that is read, in own words, and the questions in it, worked out by hand.

Offsets in the bridge's text: "1931" 31, "Dana Holt" 39, "river Lume" 65, "Lume" 71, "Tarrow" 81.
"""

import json
from typing import Any, NamedTuple

BRIDGE = "The Orrin bridge was opened in 1931 by Dana Holt. It crosses the river Lume near Tarrow."
WHO, WHEN, RIVER = "Who opened the bridge?", "When was it opened?", "Which river does it cross?"
HOLT = {"text": "Dana Holt", "answer_start": 39}
YEAR = {"text": "1931", "answer_start": 31}
LUME = {"text": "Lume", "answer_start": 71}


class Question(NamedTuple):
    id: str
    question: str
    context: str
    answers: list[tuple[str, int]] | None
    """Text and offset; None if the file does not say."""


class Sample(NamedTuple):
    file: str
    content: str
    questions: list[Question]
    left_out: tuple[str, ...] = ()
    """Parts of the warnings."""
    split: str = "train"


def lines(*values: Any) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def squad(*paragraphs: Any, title: str | None = "Bridges") -> str:
    article = {"paragraphs": list(paragraphs)} | ({} if title is None else {"title": title})
    return json.dumps({"version": "1", "data": [article]}, ensure_ascii=False)


ROWS = Sample(
    "rows.jsonl",
    lines(
        {"id": 1, "question": WHO, "context": BRIDGE, "answers": [HOLT]},
        {"id": "2", "question": WHEN, "context": BRIDGE, "answers": {"text": [], "answer_start": []}},
    ),
    [Question("1", WHO, BRIDGE, [("Dana Holt", 39)]), Question("2", WHEN, BRIDGE, [])],
)

PARAGRAPHS = Sample(
    "paragraphs.json",
    json.dumps(
        [{"context": BRIDGE, "qas": [{"id": "00001", "is_impossible": False, "question": WHO, "answers": [HOLT]}]}]
    ),
    [Question("00001", WHO, BRIDGE, [("Dana Holt", 39)])],
)

# "The licence runs for " has 21 characters; the sentence of 32 is followed by 400 of 24, and "It ends on " has 11.
CONTRACT = "The licence runs for two years. " + "Nothing else is agreed. " * 400 + "It ends on 5 May."
TERMS = [{"text": "two years", "answer_start": 21}, {"text": "5 May", "answer_start": 9643}]
CUAD = Sample(
    "cuad.json",
    squad(
        {
            "context": CONTRACT,
            "qas": [
                {"id": "LICENCE__Term", "question": "Term?", "answers": TERMS, "is_impossible": False},
                {"id": "LICENCE__Fee", "question": "Fee?", "answers": [], "is_impossible": True},
            ],
        },
        title="LICENCE",
    ),
    [
        Question("LICENCE__Term", "Term?", CONTRACT, [("two years", 21), ("5 May", 9643)]),
        Question("LICENCE__Fee", "Fee?", CONTRACT, []),
    ],
)

KOREAN = "오린 다리는 1931년에 열렸다."  # the year begins at character 7
KORQUAD_1 = Sample(
    "korquad1.json",
    squad(
        {
            "context": KOREAN,
            "qas": [{"id": "7-0-0", "question": "언제?", "answers": [{"text": "1931년", "answer_start": 7}]}],
        }
    ),
    [Question("7-0-0", "언제?", KOREAN, [("1931년", 7)])],
)

# With the nine characters of the tags the year begins at 16; in the raw page, whose tag has a class, at 26.
PAGE = f"<html><p>{KOREAN}</p></html>"
RAW_PAGE = f'<html><p class="a">{KOREAN}</p></html>'
KORQUAD_2 = Sample(
    "korquad2.json",
    json.dumps(
        {
            "version": "2.1",
            "data": [
                {
                    "title": "오린",
                    "url": "",
                    "context": PAGE,
                    "raw_html": RAW_PAGE,
                    "qas": [
                        {
                            "id": "19",
                            "question": "언제?",
                            "answer": {
                                "text": "1931년",
                                "answer_start": 16,
                                "html_answer_text": "1931년",
                                "html_answer_start": 26,
                            },
                        }
                    ],
                }
            ],
        }
    ),
    [Question("19", "언제?", PAGE, [("1931년", 16)])],
)

CHINESE = "奧林橋於一九三一年由霍爾特開通，跨越盧梅河，霍爾特住在塔羅。"  # the year at 4, Holt at 10 and 22
DRCD = Sample(
    "drcd.json",
    squad(
        {
            "context": CHINESE,
            "id": "1001-10",
            "qas": [
                {
                    "id": "1001-10-1",
                    "question": "何時？",
                    "answers": [{"text": "一九三一年", "id": "1", "answer_start": 4}],
                },
                {"id": 2, "question": "誰？", "answers": [{"text": "霍爾特", "id": "1", "answer_start": 10}]},
            ],
        }
    ),
    [
        Question("1001-10-1", "何時？", CHINESE, [("一九三一年", 4)]),
        Question("2", "誰？", CHINESE, [("霍爾特", 10)]),
    ],
)
CMRC = Sample(
    "cmrc.json",
    json.dumps(
        [
            {
                "context_id": "T_0",
                "context_text": CHINESE,
                "title": "橋",
                "qas": [{"query_id": "T_0_Q_0", "query_text": "誰？", "answers": ["霍爾特", "由霍爾特"]}],
            }
        ]
    ),
    [Question("T_0_Q_0", "誰？", CHINESE, [("霍爾特", 10), ("由霍爾特", 9)])],
)
CMRC_SQUAD = Sample(
    "cmrc_squad.json",
    squad({"id": "DEV_0", "context": CHINESE, "qas": [{"id": "DEV_0_Q_0", "question": "何時？", "answers": [{"text": "一九三一年", "answer_start": 4}] * 2}]}),
    [Question("DEV_0_Q_0", "何時？", CHINESE, [("一九三一年", 4)] * 2)],
)  # fmt: skip
TYDI = Sample(
    "tydi.json",
    squad(
        {"context": "Silta avattiin 1931.", "qas": [{"id": "finnish-5-1", "question": "Milloin?", "answers": [{"text": "1931", "answer_start": 15}]}]},
        title="finnish-5",
    ),
    [Question("finnish-5-1", "Milloin?", "Silta avattiin 1931.", [("1931", 15)])],
)  # fmt: skip

# Characters 4 to 7 and 12 to 15 are "Lume", 12 to 21 "Lume river".
TAGGED = "<P> Lume or Lume river. </P>"
MRQA = Sample(
    "mrqa.jsonl",
    lines(
        {"header": {"dataset": "NaturalQuestions", "mrqa_split": "train"}},
        {
            "id": "",
            "context": TAGGED,
            "context_tokens": [["<P>", 0]],
            "qas": [
                {
                    "qid": "q1",
                    "id": "unused",
                    "question": RIVER,
                    "question_tokens": [],
                    "answers": ["the Lume", "Lume river"],
                    "detected_answers": [
                        {"text": "lume", "char_spans": [[4, 7], [12, 15]], "token_spans": [[1, 1], [3, 3]]},
                        {"text": "Lume - river", "char_spans": [[12, 21]], "token_spans": [[3, 4]]},
                        {"text": "LUME", "char_spans": [[4, 7]], "token_spans": [[1, 1]]},
                    ],
                }
            ],
        },
    ),
    [Question("q1", RIVER, TAGGED, [("Lume", 4), ("Lume", 12), ("Lume river", 12)])],
)

# Characters 39 to 48 are "Dana Holt" and 38 to 39 the blank before: the span of the first question begins with it.
NEWSQA_STORIES = [
    {
        "storyId": "./news/a.story",
        "type": "train",
        "text": BRIDGE,
        "questions": [
            {"q": WHO, "consensus": {"s": 38, "e": 48}, "answers": [{"sourcerAnswers": [{"s": 39, "e": 48}]}]},
            {"q": "Is it?", "consensus": {"badQuestion": True}, "isQuestionBad": 1.0},
            {"q": "Who paid for it?", "consensus": {"noAnswer": True}},
            {"q": "How long is it?", "consensus": {"s": 200, "e": 210}},
        ],
    },
    {
        "storyId": "./news/b.story",
        "type": "dev",
        "text": BRIDGE,
        "questions": [{"q": WHEN, "consensus": {"s": 31, "e": 36}}],
    },
    {"storyId": "./news/c.story", "type": "test", "text": BRIDGE, "questions": []},
]
NEWSQA = Sample(
    "newsqa.json",
    json.dumps({"version": "1", "data": NEWSQA_STORIES}),
    [
        Question("./news/a.story#0", WHO, BRIDGE, [("Dana Holt", 39)]),
        Question("./news/a.story#2", "Who paid for it?", BRIDGE, []),
    ],
    (
        "1 left out: questions that are bad by consensus (first: ./news/a.story#1)",
        "1 left out: questions whose consensus is a span without text (first: ./news/a.story#3)",
        "1 left out: stories of type dev, since --train_file takes those of type train (first: ./news/b.story)",
        "1 left out: stories of type test, since --train_file takes those of type train (first: ./news/c.story)",
    ),
)
NEWSQA_DEV = NEWSQA._replace(
    questions=[Question("./news/b.story#0", WHEN, BRIDGE, [("1931", 31)])],
    left_out=(
        "1 left out: stories of type train, since --validation_file takes those of type dev (first: ./news/a.story)",
        "1 left out: stories of type test, since --validation_file takes those of type dev (first: ./news/c.story)",
    ),
    split="validation",
)

SPANS = "Holt and Dana Ilse Brandt , then Tarrow"  # Holt 0, Dana 9, Ilse 14, Brandt 19, the comma 26, Tarrow 33
MULTI_SPAN_QA = Sample(
    "multi_span.json",
    json.dumps(
        {
            "version": 1.0,
            "data": [
                {
                    "id": "m1",
                    "type": "HUM",
                    "question": ["who", "opened", "it"],
                    "context": SPANS.split(" "),
                    "num_span": 4,
                    "label": ["B", "O", "B", "B", "I", "O", "O", "I"],
                    "structure": "",
                },
                {"id": "m2", "question": ["why"], "context": SPANS.split(" "), "num_span": 0, "label": ["O"] * 8},
            ],
        }
    ),
    [
        Question("m1", "who opened it", SPANS, [("Holt", 0), ("Dana", 9), ("Ilse Brandt", 14), ("Tarrow", 33)]),
        Question("m2", "why", SPANS, []),
    ],
)
MULTI_SPAN_QA_TEST = Sample(
    "multi_span_test.json",
    json.dumps({"data": [{"id": "m3", "question": ["who"], "context": SPANS.split(" ")}]}),
    [Question("m3", "who", SPANS, None)],
    split="test",
)


def task(number: int, question: str, annotations: Any, text: str = BRIDGE) -> dict[str, Any]:
    return {"id": number, "data": {"text": text, "question": question}, "annotations": annotations, "predictions": []}


def annotated(*regions: tuple[int, int, str], **other: Any) -> dict[str, Any]:
    values = [{"start": start, "end": end, "text": text, "labels": ["Answer"]} for start, end, text in regions]
    results = [
        {"value": value, "id": "x", "from_name": "answer", "to_name": "text", "type": "labels"} for value in values
    ]
    return {"id": 1, "completed_by": 1, "result": results, "was_cancelled": False, **other}


# The rocket is one character and two units of UTF-16, so the browser counts 42 before Dana; two rockets in the third task.
ROCKET = f"🚀 {BRIDGE}"
LABEL_STUDIO = Sample(
    "label_studio.json",
    json.dumps(
        [
            task(
                1,
                WHO,
                [
                    annotated((39, 48, "Dana Holt")),
                    annotated((44, 48, "Holt")),
                    annotated((0, 3, "The"), was_cancelled=True),
                ],
            ),
            task(
                2,
                "Who paid?",
                [annotated() | {"result": [{"type": "choices", "value": {"choices": ["not said"]}}]}],
            ),
            task(3, WHO, [annotated((42, 51, "Dana Holt"), (34, 38, "1931"))], ROCKET),
            task(4, WHO, [annotated((41, 50, "Dana Holt"))], ROCKET),
        ]
    ),
    [
        Question("1", WHO, BRIDGE, [("Dana Holt", 39), ("Holt", 44)]),
        Question("2", "Who paid?", BRIDGE, []),
        Question("3", WHO, ROCKET, [("Dana Holt", 41), ("1931", 33)]),
        Question("4", WHO, ROCKET, [("Dana Holt", 41)]),
    ],
)
LABEL_STUDIO_TODO = Sample(
    "label_studio_todo.json",
    json.dumps([task(1, WHO, []), task(2, WHEN, [annotated((31, 35, "1931"), was_cancelled=True)]), {"id": 3, "data": {"text": BRIDGE, "question": RIVER}}]),
    [Question("1", WHO, BRIDGE, None), Question("2", WHEN, BRIDGE, None), Question("3", RIVER, BRIDGE, None)],
    split="test",
)  # fmt: skip

GENE, ROAD = "Gene ABX1 and gene QR-2 are active; qr-2 less.", "ABX1 was found, and ABX1 again. Not ABX12."
BIOASQ = Sample(
    "bioasq.json",
    json.dumps(
        {
            "questions": [
                {
                    "id": "b1",
                    "type": "factoid",
                    "body": "Which gene is active?",
                    "documents": [],
                    "ideal_answer": ["It is ABX1."],
                    "exact_answer": [["abx1", "gene abx-one"]],
                    "snippets": [
                        {"text": GENE, "document": "d1", "offsetInBeginSection": 0, "beginSection": "abstract"},
                        {"text": ROAD, "document": "d2"},
                        {"text": "Nothing here.", "document": "d3"},
                    ],
                },
                {
                    "id": "b2",
                    "type": "list",
                    "body": "Which genes?",
                    "exact_answer": [["ABX1"], ["QR-2"], ["ZZ9"]],
                    "snippets": [{"text": GENE, "document": "d1"}],
                },
                {"id": "b3", "type": "yesno", "body": "Is it?", "exact_answer": "yes", "snippets": []},
                {"id": "b4", "type": "summary", "body": "What is it?", "snippets": []},
                {"id": "b5", "type": "factoid", "body": "Which?", "exact_answer": ["ABX1"], "snippets": []},
            ]
        }
    ),
    [
        Question("b1_001", "Which gene is active?", GENE, [("ABX1", 5)]),
        Question("b2", "Which genes?", GENE, [("ABX1", 5), ("QR-2", 19)]),
    ],
    (
        "1 left out: snippets in which an answer occurs several times (first: b1_002)",
        "1 left out: snippets that hold no answer word by word (first: b1_003)",
        "1 left out: questions of type yesno, whose answer is no span (first: b3)",
        "1 left out: questions of type summary, whose answer is no span (first: b4)",
        "1 left out: questions without a snippet (first: b5)",
    ),
)
BIOASQ_TEST = Sample(
    "bioasq_test.json",
    json.dumps({"questions": [{"id": "b6", "type": "list", "body": "Which?", "snippets": [{"text": GENE}]}]}),
    [Question("b6", "Which?", GENE, None)],
    split="test",
)

HINDI = "ओरिन पुल 1931 में खुला।"  # six characters and a blank: "ओरिन " has 5, "पुल " 4
CHAII = Sample(
    "chaii.csv",
    f"id,context,question,answer_text,answer_start,language\n903deec17,{HINDI},पुल कब खुला?,1931,9,hindi\n",
    [Question("903deec17", "पुल कब खुला?", HINDI, [("1931", 9)])],
)
CHAII_TEST = Sample(
    "chaii_test.csv",
    f"id,context,question,language\n22bff3dec,{HINDI},पुल कब खुला?,hindi\n",
    [Question("22bff3dec", "पुल कब खुला?", HINDI, None)],
    split="test",
)

SAMPLES = (
    *(ROWS, PARAGRAPHS, CUAD, KORQUAD_1, KORQUAD_2, DRCD, CMRC, CMRC_SQUAD, TYDI, MRQA, NEWSQA, NEWSQA_DEV),
    *(MULTI_SPAN_QA, MULTI_SPAN_QA_TEST, LABEL_STUDIO, LABEL_STUDIO_TODO, BIOASQ, BIOASQ_TEST, CHAII, CHAII_TEST),
)
