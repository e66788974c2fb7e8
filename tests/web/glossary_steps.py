"""What a reader does with the glossary at the foot of a page, with keys alone, served or
exported."""

from experiments.make_reference import glossary

WORDS = glossary()
SHOWN = """[...document.querySelectorAll('#glossary dl > div')].filter((e) => e.checkVisibility())
    .map((e) => ({term: e.querySelector('dt').firstChild.data.trim(),
        other: e.querySelector('dt [lang]').textContent,
        lang: e.querySelector('dt [lang]').lang, meaning: e.querySelector('dd').textContent}))"""


def told(language, other):
    """What the page is to show in a language."""
    return [
        {
            "term": word[language]["term"],
            "other": word[other]["term"],
            "lang": other,
            "meaning": word[language]["meaning"],
        }
        for word in WORDS
    ]


def open_and_read(page):
    """Reaches the glossary by Tab, opens it by Enter, reads it in both languages, closes it."""
    assert page.evaluate(SHOWN) == []
    page.keyboard.press("Shift+Tab")  # from the top to what the browser has last
    for _ in range(80):
        if page.evaluate("document.activeElement.matches('#glossary summary')"):
            break
        page.keyboard.press("Tab")
    else:
        raise AssertionError("Tab does not reach the glossary")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate(SHOWN) == told("en", "ja")
    heard = page.locator("#glossary").aria_snapshot()
    assert "What the words mean" in heard
    for word in WORDS:
        assert word["en"]["term"] in heard and word["en"]["meaning"][:40] in heard
    page.click("[data-language=ja]")
    assert page.evaluate(SHOWN) == told("ja", "en"), "it stays open and changes its language"
    assert page.inner_text("#glossary summary") == "言葉の意味"
    page.click("#glossary summary")
    assert page.evaluate(SHOWN) == []
