"""Trials of `browser_check.py` on the home page: the search, the keyboard, and the interactive simplex.

Each trial takes an open home page and returns its faults. The expected numbers of the simplex come from
`dar_ref.theory`.
"""

from collections.abc import Callable

import numpy as np
from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as TimedOut

from dar_ref import theory

TAB_STOPS = 60  # enough to reach every stop of the page
LOG_PI_0, ADVANTAGE, TILTS = np.log([0.15, 0.75, 0.10]), np.array([0.5, 0.0, 1.0]), (1.2, 2.7, 4.2)
ALPHA = 0.2  # not the page's 1/2: there a swap of the two policies would not be seen
FOCUSED = """() => {
  const element = document.activeElement;
  const hidden = getComputedStyle(element).opacity === "0" || element.offsetWidth < 2;
  const box = (hidden && element.matches("input") ? element.parentElement : element).getBoundingClientRect();
  const name = element.getAttribute("aria-label") || element.textContent.trim() || element.title || element.id;
  return { tag: element.tagName, name: name.slice(0, 40), x: box.x, y: box.y, width: box.width, height: box.height };
}"""


def search(page: Page) -> list[str]:
    """The search finds "Chernoff", and its first result leads to a page with this word."""
    page.get_by_label("Search", exact=True).first.click()
    page.keyboard.type("Chernoff", delay=20)
    results = page.locator(".md-search-result__item a")
    try:
        results.first.wait_for(timeout=10_000)
    except TimedOut:
        return ["the search does not find Chernoff"]
    results.first.click()
    page.wait_for_load_state("networkidle")
    return [] if "chernoff" in page.content().lower() else [f"the first result is not about Chernoff: {page.url}"]


def keyboard(page: Page) -> list[str]:
    """Every stop of the tab key is on the screen, has a name, and looks different with and without focus."""
    faults, stops = [], []
    for _ in range(TAB_STOPS):
        page.keyboard.press("Tab")
        page.wait_for_timeout(120)  # a stop below the fold is scrolled to
        stop = page.evaluate(FOCUSED)
        if stop["tag"] == "BODY":
            break
        stops.append(stop["name"])
        height = page.viewport_size["height"]
        if stop["width"] < 2 or stop["height"] < 2 or not 0 <= stop["y"] + stop["height"] / 2 <= height:
            faults.append(f"focus goes to something that cannot be seen: {stop['tag']} {stop['name']!r}")
            continue
        faults += [] if stop["name"] else [f"focus on something without a name: {stop}"]
        clip = {"x": max(stop["x"] - 12, 0), "y": max(stop["y"] - 12, 0)}
        clip |= {"width": stop["width"] + 24, "height": stop["height"] + 24}
        focused = page.screenshot(clip=clip, animations="disabled", caret="initial")
        page.evaluate("window.left = document.activeElement; window.left.blur()")
        page.wait_for_timeout(60)
        if page.screenshot(clip=clip, animations="disabled", caret="initial") == focused:
            faults.append(f"focus cannot be seen: {stop['tag']} {stop['name']!r}")
        page.evaluate("window.left.focus({ preventScroll: true })")
    wanted = {"initial policy pi_0", "current policy pi_t", "alpha, weight of the initial policy", "Skip to content"}
    faults += [f"the tab key does not reach {name!r}" for name in wanted if not any(name in stop for stop in stops)]
    return faults


def simplex(page: Page) -> list[str]:
    """Buttons, arrow keys, the mouse and sliders change the simplex, and its numbers are those of the theory."""
    page.locator(".simplex-more > summary").click()
    faults = [fault for stage, tilt in enumerate(TILTS) for fault in _stage(page, stage, tilt)]
    page.locator("[data-stage='0']").first.click()  # room around both
    page.wait_for_timeout(50)
    for name in ("initial policy pi_0", "current policy pi_t"):
        handle = page.get_by_role("slider", name=name)
        handle.focus()  # scrolls
        x, y = _center(handle)
        handle.press("Shift+ArrowUp")
        page.wait_for_timeout(50)
        faults += [] if _center(handle)[1] < y - 5 else [f"arrow keys do not move {name} up"]
        page.mouse.move(*_center(handle))
        page.mouse.down()
        page.mouse.move(x + 30, y - 25)
        page.mouse.up()
        page.wait_for_timeout(50)
        faults += [] if np.allclose(_center(handle), (x + 30, y - 25), atol=3) else [f"the mouse does not move {name}"]
    for key in ("alpha", "beta", "eps0", "epsT"):
        before = page.locator(".simplex-numbers").all_inner_texts()
        page.locator(f"#simplex-{key}").press("ArrowRight")
        page.wait_for_timeout(50)
        faults += [f"{key} changes nothing"] if page.locator(".simplex-numbers").all_inner_texts() == before else []
    target = page.locator("[data-number='piStar']").inner_text()
    page.locator("[data-step]").click()
    page.wait_for_timeout(50)
    moved = page.locator("[data-number='piT']").inner_text()
    return faults if moved == target else [*faults, f"one DAR step from {target!r} ends at {moved!r}"]


def touch(page: Page) -> list[str]:
    """A finger moves a policy, and does not scroll the page while it does."""
    handle = page.get_by_role("slider", name="current policy pi_t")
    handle.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    (x, y), scrolled = _center(handle), page.evaluate("scrollY")
    screen = page.context.new_cdp_session(page)
    for kind, step in (("touchStart", 0), *(("touchMove", step) for step in range(1, 11)), ("touchEnd", 0)):
        points = [] if kind == "touchEnd" else [{"x": x - 3 * step, "y": y - 3 * step}]
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_timeout(50)
    faults = [] if np.allclose(_center(handle), (x - 30, y - 30), atol=3) else ["a finger does not move pi_t"]
    return faults if page.evaluate("scrollY") == scrolled else [*faults, "moving pi_t by a finger scrolls the page"]


def _center(handle: Locator) -> tuple[float, float]:
    box = handle.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _stage(page: Page, stage: int, tilt: float) -> list[str]:
    page.locator(f"[data-stage='{stage}']").last.click()
    page.locator("#simplex-alpha").fill(str(ALPHA))
    page.wait_for_timeout(50)
    log_pi_t = theory.optimum(ADVANTAGE, LOG_PI_0, LOG_PI_0, 1.0, 1.0 / tilt).log_pi
    best = np.exp(theory.optimum(ADVANTAGE, LOG_PI_0, log_pi_t, ALPHA, 1.0).log_pi)
    share = 100.0 * theory.region_volume(LOG_PI_0, log_pi_t, 0.2, 0.2).fraction
    expected = {
        "needed": ([float(theory.chernoff(LOG_PI_0, log_pi_t).information)], 6e-4),
        "margin": ([float(theory.feasible(LOG_PI_0, log_pi_t, 0.2, 0.2).margin)], 6e-4),
        "share": ([share], 6e-3 * max(share, 1.0)),
        "piStar": (best.tolist(), 6e-4),
    }
    faults = []
    for name, (values, tolerance) in expected.items():
        text = page.locator(f"[data-number='{name}']").inner_text()
        shown = [float(part.rstrip(",")) for part in text.replace("−", "-").split() if part[-1] in "0123456789,"]
        if not np.allclose(shown[: len(values)], values, rtol=0.0, atol=tolerance):
            faults.append(f"stage {stage}: {name} is shown as {text!r}, expected {values}")
    return faults


TRIALS: dict[str, Callable[[Page], list[str]]] = {
    "search": search,
    "keyboard": keyboard,
    "simplex": simplex,
    "touch": touch,
}
