"""A dozen random kills; `make chaos` makes two hundred."""

from chaos import chaos


def test_a_dozen_kills_at_random_moments_lose_no_run(tmp_path):
    """Breaks if any moment leaves a folder from which the same command cannot go on to the same end."""
    summary = chaos(12, seed=0, place=tmp_path)
    print(summary)
    assert summary.kills == 12 and not summary.lost, str(summary)
