"""The page, in a real browser: a passage is pasted, a question asked, the answer is marked in it."""

import pytest
from browsers import CONTRAST
from served import served
from toy import context_about

KEY = "0123456789abcdef-key"
TREES = "🌳🌳 <b>bold</b> <script>document.title = 'ran'</script> & "
PASSAGE = TREES + context_about("Tess") * 3


def test_a_person_asks_and_sees_the_answer_marked_in_the_passage(reader, opened):
    """With the keyboard alone. Breaks if places are taken for JavaScript's, which count each tree twice, or if the passage's
    markup is obeyed."""
    with served({"toy": reader}) as server:
        page = opened(server.url + "/")
        page.focus("#context")
        page.keyboard.insert_text(PASSAGE)
        page.keyboard.press("Tab")
        page.keyboard.type("Where was Tess born?")
        page.keyboard.press("Enter")
        page.wait_for_selector("#result:not([hidden])")
        asked = {"context": PASSAGE, "question": "Where was Tess born?", "top_k": 5, "handle_impossible_answer": True}
        answers = server.ask(**asked)["answers"]
        spans = [number for number, answer in enumerate(answers) if answer["answer"]]
        assert len(spans) > 1 and len(answers) == 5
        rows = page.locator("#others button")
        assert [rows.nth(n).locator("span").first.inner_text() for n in range(5)] == [
            answer["answer"] or "no answer" for answer in answers
        ]
        for number in spans:
            rows.nth(number).focus()
            page.keyboard.press("Enter")
            assert page.inner_text("mark") == answers[number]["answer"] == page.inner_text("#best")
            before = page.evaluate("document.querySelector('mark').previousSibling.textContent")
            assert before == PASSAGE[: answers[number]["start"]]
        assert page.evaluate("document.getElementById('passage').textContent") == PASSAGE
        assert page.locator("#passage b, #passage script").count() == 0 and page.title() == "Ask a text"
        assert page.complaints == []
        assert page.requested and all(url.startswith(server.url) for url in page.requested), "nothing from elsewhere"


def test_what_goes_wrong_is_said_on_the_page(reader, opened):
    with served({"toy": reader}, max_document_characters=100) as server:
        page = opened(server.url + "/")
        page.fill("#context", "a " * 200)
        page.fill("#question", "Where?")
        page.click("#ask")
        page.wait_for_selector("#said.wrong")
        assert page.inner_text("#said") == "a text has 400 characters; expected at most 100: send parts of it"
        assert page.is_enabled("#ask") and page.is_hidden("#result")


def test_a_server_with_a_key_and_two_models_shows_fields_for_both(reader, opened):
    with served({"toy": reader, "other": reader}, api_key=KEY) as server:
        page = opened(server.url + "/")
        page.wait_for_selector("#key-field:not([hidden])")
        page.fill("#key", KEY)
        page.press("#key", "Tab")
        page.wait_for_selector("#model-field:not([hidden])")
        page.select_option("#model", "other")
        page.fill("#context", context_about("Ana"))
        page.fill("#question", "Where was Ana born?")
        page.click("#ask")
        page.wait_for_selector("#result:not([hidden])")
        assert server.metric('qa_questions_total{model="other"}') == 1
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_screen_in_both_schemes(reader, opened, scheme):
    """Breaks if something is wider than a phone, or text and ground are too alike (contrast by WCAG 2: 4.5 at least)."""
    with served({"toy": reader}) as server:
        page = opened(server.url + "/", viewport={"width": 320, "height": 640}, color_scheme=scheme)
        page.fill("#context", PASSAGE + "x" * 300)
        page.fill("#question", "Where was Tess born?")
        page.click("#ask")
        page.wait_for_selector("#result:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        for selector in ("#best", "#sure", "#ask", "li button", "footer"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector


def test_only_the_pages_own_script_may_run(reader, opened):
    """The browser obeys the policy: an inline script that is put in later does not run, and nothing is fetched elsewhere."""
    with served({"toy": reader}) as server:
        page = opened(server.url + "/")
        page.evaluate(
            """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'ran'";
            document.body.append(script);
        }"""
        )
        assert page.title() == "Ask a text"
        assert page.evaluate("fetch('http://127.0.0.2:1/').then(() => 'fetched', () => 'refused')") == "refused"
        assert any("Content Security Policy" in complaint for complaint in page.complaints)
