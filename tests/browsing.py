"""Chromium of this machine, driven by Playwright, and what every page is asked."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HERE = ("file:", "data:", "about:")

CONTRAST = """() => {
  const part = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number)
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = c => { const [r, g, b] = part(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const words = e => [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const text = [...document.body.querySelectorAll('*')].filter(e => words(e) && e.getClientRects().length);
  return Math.min(...text.map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""
"""The lowest contrast between words and what lies behind them (WCAG 2.2), of all text that a page shows."""

STUCK = """() => [...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1
  && e.tabIndex < 0 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).length"""
"""How many parts of a page scroll sideways, but not by keyboard."""

WIDTH = "document.documentElement.scrollWidth"
"""How wide a window must be to show a page without scrolling sideways."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser; where there is none the test is skipped, and fails on CI."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        message = f"no browser: install one of {', '.join(PROGRAMS)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as browser:
        yield browser


@contextmanager
def flawless(page: Page, here: tuple[str, ...] = HERE) -> Iterator[Page]:
    """A page; it fails if what it shows meanwhile fills the console, or asks for what is not `here`."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(here) else faults.append(request.url))
    yield page
    page.close()
    if faults:
        pytest.fail("; ".join(faults))
