"""The built site in a browser: python tools/site.py build/docs [folder of pictures].

Checks the links of every page to pages and to places in them. Then it opens ten pages in headless Chromium, on a
desktop and on a phone, light and dark: nothing may be wider than the screen, axe-core may find nothing serious or
critical, and the focus must be visible. Last, it searches for names of other libraries.
"""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

PAGES = (
    "index",
    "start/first",
    "start/layers",
    "start/inside",
    "overview",
    "coming/torch",
    "guides/speed",
    "gallery/index",
    "api/losses",
    "benchmarks",
)
SCREENS = {"desktop": (1280, 900, False), "phone": (390, 844, True)}  # width, height in CSS pixels, touch
SCHEMES = ("light", "dark")
SEARCHES = {
    "Linear": "names",
    "CrossEntropyLoss": "api/losses",
    "kernel_size": "api/layers",
}  # words -> page among the results
SERIOUS = {"serious", "critical"}


class Page(HTMLParser):
    """Links and ids of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes the ids and the links of a tag."""
        given = dict(attrs)
        self.ids.update(value for name, value in attrs if name in ("id", "name") and value)
        for name in ("href", "src"):
            if (link := given.get(name)) and not re.match(r"[a-z]+:|//", link):
                self.links.append(link)


def broken(site: Path) -> Iterator[str]:
    """Links to files or places that are not there."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            target, place = urldefrag(unquote(link))
            other = (path.parent / target.split("?")[0]).resolve() if target else path.resolve()
            if not other.exists():
                yield f"{path.relative_to(site)}: no file for {link}"
            elif other in pages and place not in pages[other].ids:
                yield f"{path.relative_to(site)}: no place for {link}"


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address at which the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium without a screen."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{option}")
    service = Service(shutil.which("chromedriver"), log_output=subprocess.DEVNULL)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(180)  # a long page takes axe-core many seconds on a busy machine
    try:
        yield driver
    finally:
        driver.quit()


def shown(driver: Any, width: int, height: int, touch: bool, scheme: str) -> None:
    """Makes the next pages those of a screen of this size and colour scheme."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    colours = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": colours})


WIDER = """
const limit = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth <= limit) return [];
return [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > limit + 1)
  .slice(0, 3).map(e => e.tagName + '.' + e.className + ' ends at ' + Math.round(e.getBoundingClientRect().right)
  + ' of ' + limit).concat(['page ' + document.documentElement.scrollWidth + ' of ' + limit]);
"""
FOCUSED = """
const e = document.activeElement, s = getComputedStyle(e);
return [e.tagName, s.outlineStyle !== 'none' || s.boxShadow !== 'none'];
"""


def findings(driver: Any, axe: str) -> Iterator[str]:
    """Faults of the page that is open."""
    from selenium.webdriver import ActionChains, Keys

    if "Error" in driver.title:
        yield "no such page"
    yield from driver.execute_script(WIDER)
    driver.execute_script(axe)
    found = driver.execute_async_script("const done = arguments[arguments.length - 1]; axe.run().then(done)")
    for fault in found["violations"]:
        if fault["impact"] in SERIOUS:
            nodes = [node["html"][:100] for node in fault["nodes"]]
            yield f"axe {fault['impact']} {fault['id']}: {len(nodes)} x, such as {nodes[0]}"
    for _ in range(3):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        tag, seen = driver.execute_script(FOCUSED)
        if tag != "BODY" and not seen:
            yield f"the focus on {tag} is not seen"


def searched(driver: Any, address: str, words: str, wanted: str) -> str | None:
    """A fault if the search for `words` does not lead to `wanted`."""
    driver.get(f"{address}/search.html?q={words}")
    for _ in range(100):
        links = [a.get_attribute("href") for a in driver.find_elements("css selector", "#search-results li a")]
        if any(wanted in link for link in links[:10]):
            return None
        time.sleep(0.1)
    return f"search for {words}: no {wanted} among {links[:10]}"


def main(site: Path, pictures: Path | None) -> int:
    """Number of faults, each of which is printed."""
    faults = list(broken(site))
    print(f"links of {len(list(site.rglob('*.html')))} pages: {len(faults)} broken")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        print("NO CHROMIUM, which `make browser` installs: no page was looked at", file=sys.stderr)
    else:
        axe = files("axe_core_python").joinpath("axe.min.js").read_text()
        with served(site) as address, chromium() as driver:
            for name, screen in SCREENS.items():
                for scheme in SCHEMES:
                    shown(driver, *screen, scheme)
                    for page in PAGES:
                        driver.get(f"{address}/{page}.html")
                        faults += [f"{page}, {name}, {scheme}: {told}" for told in findings(driver, axe)]
                        if pictures is not None:
                            driver.save_screenshot(str(pictures / f"{page.replace('/', '-')}-{name}-{scheme}.png"))
            told = [searched(driver, address, words, wanted) for words, wanted in SEARCHES.items()]
            faults += filter(None, told)
        print(f"{len(PAGES)} pages on {len(SCREENS)} screens, {' and '.join(SCHEMES)}; {len(SEARCHES)} searches")
    for fault in faults:
        print(fault)
    return len(faults)


if __name__ == "__main__":
    os.environ["NO_PROXY"] = "127.0.0.1"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    sys.exit(min(main(Path(sys.argv[1]).resolve(), folder), 1))
