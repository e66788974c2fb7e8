"""The glossary at the foot of both pages, in a real browser."""

import glossary_steps
import pytest

pytest.importorskip("starlette", reason="no starlette here; pip install '.[serve]'")
pytest.importorskip("uvicorn", reason="no uvicorn here; pip install '.[serve]'")
pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install '.[test]'")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", ["/", "/page.html"])
def test_the_glossary_is_read_by_keys_in_both_languages(open_page, path):
    glossary_steps.open_and_read(open_page(path))


@pytest.mark.parametrize("path", ["/", "/page.html"])
@pytest.mark.parametrize("width", [320, 1280])
def test_the_glossary_fits_the_page(open_page, path, width):
    page = open_page(path, viewport={"width": width, "height": 800}, locale="ja-JP")
    page.click("#glossary summary")
    assert page.evaluate(glossary_steps.SHOWN) == glossary_steps.told("ja", "en")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
