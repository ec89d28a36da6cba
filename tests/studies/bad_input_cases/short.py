"""The cases of `make test`: each kind once, and those of every kind of fault that was found."""

from bad_input_cases.case import Case

TITLES = """
data/100,000 brackets
data/100,000 objects, closed
data/deep value in an unused column
data/deep answers as text
data/integer of 5,000 digits as id
data/gz, cut
data/Parquet, cut
data/csv, semicolons
data/csv, a short row
data/UTF-16
data/id of a million letters, twice
data/10,000 unknown columns
data/answers without offsets
data/answers offset 34.5
data/answers all texts blank
data/is_impossible 'maybe'
data/is_impossible 'True', no answer
data/is_impossible in csv beside a plausible answer (score)
data/nested: paragraphs null
data/MRQA (prepare)
data/a list of paragraphs (score)
data/two gold answers far apart
data/a blank gold answer (predict)
data/threshold inf, negatives (predict)
data/a folder of csv with ids 007
data/dataset_dict.json broken
data/markup that closes nothing in all texts (train)
data/escape sequences in all texts (train)
data/escape sequences in a refused row
data/FIFO
data//dev/zero
data//dev/random
data/a name that is not UTF-8
data/max_train_samples 0
score/predictions deep
score/predictions a FIFO
score/odds an integer of 400 digits
score/odds infinite
score/gold of ids and answers alone
score/threshold nan
summary/exact a string
summary/deep
model/config a list (predict)
model/config deep (predict)
model/config hidden size text (predict)
model/config hidden size another (predict)
model/config heads do not divide (predict)
model/config activation unknown (predict)
model/config dtype garbage (predict)
model/config threshold Infinity (predict)
model/tokenizer.json empty object (predict)
model/tokenizer_config a list (predict)
model/weights empty (train)
model/weights cut (predict)
model/weights wrong shapes (predict)
model/weights head of wrong shape (train)
model/weights shard index broken (predict)
model/pickle bomb in torch's zip (predict)
model/folder missing (predict)
model/code in the head (predict)
model/adapter base null (predict)
model/adapter config broken (predict)
model/adapter without weights (predict)
model/adapter pickle bomb (predict)
model/adapter unknown type (predict)
recipe/deep
recipe/a tag of Python
recipe/int of 5,000 digits
recipe/key twice
recipe/rate a list
recipe/report_to unknown
recipe/output_dir null
flag/--learning_rate nan (train)
flag/--adam_beta1 1 (train)
flag/--adam_epsilon inf (train)
flag/--weight_decay nan (train)
flag/--max_train_hours nan (train)
flag/--per_device_train_batch_size 1000000000 (train)
output/a file (prepare)
output/empty (predict)
output/not UTF-8 (train)
output/markup that closes nothing (train)
output/best a file (train)
output/metrics.jsonl a FIFO (train)
output/an interrupted run (predict)
output/metrics.jsonl: NULs (train)
output/metrics.jsonl: step text (train)
output/no room for a checkpoint (train)
output/no room for the n-best list (predict)
cache/questions zeros in the middle
cache/questions of other columns
cache/windows cut in the middle
cache/windows 8 bytes at 7/16
cache/windows exchanged
reader/a Dataset
reader/None
reader/half a surrogate in the context
checkpoint/optimizer.bin flipped
checkpoint/manifest brackets
checkpoint/manifest a name of markup
checkpoint/progress.json an empty object, manifest renewed
checkpoint/random states garbage, manifest renewed
checkpoint/optimizer.bin a pickle bomb, manifest renewed
checkpoint/a batch that is larger than what is left, allowed
"""


def short(cases: list[Case]) -> list[Case]:
    titles, by_title = TITLES.strip().splitlines(), {case.title: case for case in cases}
    gone = [title for title in titles if title not in by_title]
    assert not gone, f"no case has these names: {gone}"
    return [by_title[title] for title in titles]
