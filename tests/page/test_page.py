"""The demo's page in a real browser, as people use it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from chromium import launcher
from handwriting import mnist
from page_visits import visit

from powfast.cli import main
from powfast.clients.httpx import PowAuth
from powfast.demo.service import served
from powfast.demo.shop import Shop, prepared
from powfast.demo.site import site
from powfast.demo.strokes import drawing
from powfast.profile import ClientProfile

RATE = 5e6  # evaluations a second that the price is made for
SECONDS = 1000  # milliseconds
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def shop() -> Shop:
    made = prepared(RATE, say=lambda line: None)
    opening = 256 * made.tariff.base_work  # of new accounts once one has extracted
    return replace(made, tariff=replace(made.tariff, opening_work=opening))


@pytest.fixture(scope="module")
def url(shop: Shop) -> Iterator[str]:
    with served(site(shop)) as url:
        yield url


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    with launcher() as launch:
        yield launch


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    with visit(browser, url) as page:
        yield page


@contextmanager
def priced(shop: Shop, work: float) -> Iterator[str]:
    """Serve newcomers of its own, at another base price."""
    tariff = replace(shop.tariff, base_work=work, opening_work=256 * work, max_work=1e6 * work)
    with served(site(replace(shop, tariff=tariff))) as url:
        yield url


def draw(page: Any, digit: int, seed: int = 0) -> None:
    box = page.locator("#pad").bounding_box()
    for stroke in drawing(digit, np.random.default_rng([seed, digit])):
        low, size = np.array([box["x"], box["y"]]), box["width"]
        points = low + (0.25 + 0.5 * stroke) * size
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def ask(page: Any) -> str:
    """Ask and return what the page says of the answer."""
    page.click("#ask")
    return answered(page)


def answered(page: Any) -> str:
    page.wait_for_selector("#said:has-text('The model says')")
    said: str = page.inner_text("#said")
    page.evaluate("document.querySelector('#said').textContent = ''")
    return said


def play(page: Any) -> None:
    """Let the extractor ask until it gives up."""
    page.click("#extract")
    page.wait_for_selector("#extracting:has-text('does not pay')")
    page.wait_for_selector("#extract:has-text('Play')")


def operator(page: Any) -> dict[str, Any]:
    """Return the visitor's own accounts by role, as the operator sees them."""
    view = page.evaluate(
        """async () => {
          const { get } = await import("/page/model.js");
          return get("/demo/operator");
        }"""
    )
    return {row["name"].split()[0]: row for row in view["accounts"] if row["mine"]}


def test_drawn_digits_are_recognised(page: Any) -> None:
    right = 0
    for digit in range(10):
        page.click("#clear")
        draw(page, digit)
        right += ask(page).startswith(f"The model says {digit},")
    assert right >= 8
    assert page.locator("#classes tr").count() == 10
    assert page.locator("#classes .best").count() == 1
    for cost in ("#evaluations", "#seconds", "#multiple"):
        assert page.inner_text(cost)[0].isdigit()


def test_handwriting_from_elsewhere_is_read_and_priced_as_honest(shop: Shop, data: Path) -> None:
    images, labels = mnist(data, 400)
    assert (shop.victim.probabilities(images).argmax(axis=1) == labels).mean() > 0.75
    assert shop.victim.evidence(images).mean() < 1.0
    assert shop.victim.evidence(shop.photographs).mean() > 20.0


def test_ordinary_digits_stay_at_the_base_price(page: Any) -> None:
    for sample in page.locator("#samples button").all():
        sample.click()
        ask(page)
    visitor = operator(page)["visitor"]
    assert visitor["queries"] == 10
    assert visitor["price"] == 1.0
    assert visitor["wealth"] < 1.0


def test_an_extractor_s_price_climbs_while_ones_own_stays(page: Any) -> None:
    draw(page, 3)
    ask(page)
    play(page)
    accounts = operator(page)
    assert accounts["extractor"]["price"] > 2 * 256
    assert accounts["extractor"]["prices"] == sorted(accounts["extractor"]["prices"])
    assert accounts["visitor"]["prices"] == [1.0]
    label = page.locator("#chart").get_attribute("aria-label")
    assert "you: 1×" in label and "your extractor: " in label
    assert "your extractor" in page.inner_text("#accounts")


def test_the_operator_sees_what_the_tariff_says(shop: Shop) -> None:
    images = shop.photographs[:3]
    headers = {"authorization": "Bearer visitor.somebody"}
    auth = PowAuth(policy=lambda challenge: challenge.request != b"")  # nothing ahead
    with (
        priced(shop, shop.tariff.base_work) as url,
        httpx.Client(base_url=url, headers=headers, auth=auth) as client,
    ):
        for image in images:
            status = 402
            while status == 402:  # again where its price has risen
                answer = client.post("/v1/predict", json={"images": [image.tolist()]}, timeout=600)
                status = answer.status_code
            assert status == 200
        view = client.get("/demo/operator").json()
    evidence = shop.victim.evidence(images)
    prices, state = shop.tariff.work(evidence)
    own = prices - [shop.tariff.opening_work, 0, 0]
    due = np.maximum(own, shop.tariff.newcomers(evidence)[0] * shop.tariff.base_work).sum()
    (seen,) = [row for row in view["accounts"] if row["mine"]]
    assert seen["queries"] == 3
    assert seen["wealth"] == pytest.approx(state[1:].mean())
    assert seen["price"] == pytest.approx(own[-1] / shop.tariff.base_work)
    assert due <= seen["redeemed"] <= due * (1 + shop.tariff.step)
    assert view["credit"] == pytest.approx(seen["redeemed"] - due)
    assert view["totals"]["redeemed"] >= seen["redeemed"]


def test_solving_shows_how_far_it_is_and_can_be_cancelled(browser: Any, shop: Shop) -> None:
    with priced(shop, 1e11) as url, visit(browser, url) as page:
        draw(page, 5)
        page.click("#ask")
        page.wait_for_selector("text=/s left/")
        assert page.evaluate("document.activeElement.id") == "cancel"
        assert page.get_by_role("progressbar").get_attribute("value") is not None
        page.click("#cancel")
        page.wait_for_selector("#said:has-text('Cancelled')")
        assert not page.is_visible("#solving")
        assert page.evaluate("document.activeElement.id") == "ask"
        page.click("#ask")  # the same question again: charged once
        page.wait_for_selector("#cancel")
        page.keyboard.press("Enter")
        page.wait_for_selector("#said:has-text('Cancelled')")
        assert "visitor" not in operator(page)  # nothing runs before it is paid for


@pytest.mark.parametrize("images", [1, 3])
def test_a_first_question_costs_a_base_price_and_a_dear_one_is_paid_in_two(
    browser: Any, shop: Shop, images: int
) -> None:
    base = shop.tariff.base_work

    def repeated(route: Any) -> None:
        (image,) = route.request.post_data_json["images"]
        route.continue_(post_data=json.dumps({"images": [image] * images}))

    with priced(shop, base) as url, visit(browser, url) as page:
        answers: list[Any] = []
        page.on("response", lambda answer: answers.append(answer))
        page.route(lambda url: "/v1/predict" in url, repeated)
        page.click("#samples button >> nth=5")
        assert ask(page).startswith("The model says 5")
        asked = [answer for answer in answers if "/v1/" in answer.url]
        challenged = 1 if images == 1 else 2
        assert [answer.status for answer in asked] == [402] * challenged + [200]
        receipts = [answer.header_value("pow-receipt") for answer in asked[1:]]
        works = [int(receipt.split(",")[0].removeprefix("work=")) for receipt in receipts]
        # the price of the moment, then the rest; rounded up by an eighth at most
        for work, due in zip(works, (base, (images - 1) * base), strict=False):
            assert due <= work <= 1.125 * due + 1
        assert f"price was {images * base:,.0f} hashes." in page.inner_text("#explained")
        assert operator(page)["visitor"]["queries"] == images


def test_credit_refills_by_itself_and_pays_the_next_answers(browser: Any, shop: Shop) -> None:
    base = shop.tariff.base_work
    with priced(shop, base) as url, visit(browser, url) as page:
        statuses: list[int] = []
        page.on("response", lambda answer: "/v1/" in answer.url and statuses.append(answer.status))
        assert page.inner_text("#credit-left") == "Credit left: 0 base prices"
        page.click("#samples button >> nth=3")
        ask(page)
        page.wait_for_selector("#credit-left:has-text('more go along with the next question')")
        assert page.get_by_role("meter", name="Credit left").get_attribute("max") == "40"
        for _ in range(3):
            ask(page)
            assert f"price was {base:,.0f} hashes" in page.inner_text("#explained")
        assert "paid from credit" in page.inner_text("#explained")
        assert statuses == [402] + [200] * 4
        assert operator(page)["visitor"]["redeemed"] >= 32 * base
        left = page.inner_text("#credit-left")
        assert 28 <= int(left.split()[2]) <= 32 and "more" not in left
        assert int(left.split()[2]) == int(page.locator("#credit").evaluate("bar => bar.value"))
        page.reload(wait_until="domcontentloaded")
        page.wait_for_selector(f"#credit-left:has-text('{left}')")


def test_newcomers_pay_more_while_one_extracts_and_it_is_explained(
    browser: Any, shop: Shop
) -> None:
    with priced(shop, shop.tariff.base_work) as url, visit(browser, url) as page:
        play(page)
        page.click("#samples button >> nth=4")
        ask(page)
        assert "every new account pays more" in page.inner_text("#explained")
        assert operator(page)["visitor"]["price"] == 1.0


def test_a_reload_keeps_the_account(page: Any) -> None:
    page.click("#samples button >> nth=4")
    ask(page)
    page.reload(wait_until="domcontentloaded")
    page.click("#samples button >> nth=7")
    ask(page)
    visitor = operator(page)["visitor"]
    assert visitor["queries"] == 2
    page.click("#anew")
    assert page.inner_text("#credit-left") == "Credit left: 0 base prices"
    ask(page)
    assert operator(page)["visitor"]["queries"] == 1


def test_offline_nothing_is_lost_and_no_old_answer_stands(page: Any) -> None:
    page.click("#samples button >> nth=7")
    assert ask(page).startswith("The model says 7")
    assert page.is_visible("#answer")
    page.click("#samples button >> nth=2")
    page.context.set_offline(True)
    page.click("#ask")
    page.wait_for_selector("#said:has-text('cannot be reached')")
    assert page.is_visible("#offline")
    assert not page.is_visible("#answer")
    page.context.set_offline(False)
    assert ask(page).startswith("The model says 2")
    assert page.is_visible("#answer")
    page.wait_for_selector("#offline", state="hidden")


def test_a_dead_server_leaves_no_old_answer(browser: Any, shop: Shop) -> None:
    with ExitStack() as server:
        url = server.enter_context(served(site(shop)))
        with visit(browser, url) as page:
            page.click("#samples button >> nth=7")
            assert ask(page).startswith("The model says 7")
            server.close()
            page.click("#ask")
            page.wait_for_selector("#said:has-text('cannot be reached')")
            assert not page.is_visible("#answer")


@pytest.mark.parametrize("width", [320, 360, 480, 481, 500, 560, 927, 928, 1000, 1400])
def test_the_digits_fit_beside_each_other(browser: Any, url: str, width: int) -> None:
    with visit(browser, url, viewport={"width": width, "height": 800}) as page:
        page.wait_for_selector("#samples button >> nth=9")
        row = page.locator("#samples").bounding_box()
        boxes = [digit.bounding_box() for digit in page.locator("#samples button").all()]
        for box in boxes:
            assert row["x"] <= box["x"]
            assert box["x"] + box["width"] <= row["x"] + row["width"] + 0.5
        for left, right in itertools.pairwise(boxes):
            assert left["x"] + left["width"] <= right["x"] or left["y"] < right["y"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_webassembly(launch: Callable[..., Any], shop: Shop) -> None:
    browser = launch("--js-flags=--jitless")  # as in Edge's enhanced security; and slow
    try:
        with priced(shop, 500) as url, visit(browser, url) as page:
            assert page.evaluate("typeof WebAssembly") == "undefined"
            page.click("#samples button >> nth=6")
            assert ask(page).startswith("The model says 6")
            page.wait_for_selector("#credit-left:has-text('more go along')")
            ask(page)
            assert "paid from credit" not in page.inner_text("#explained")  # what went along did
            ask(page)
            assert "paid from credit" in page.inner_text("#explained")
    finally:
        browser.close()


def test_by_keyboard_alone(page: Any) -> None:
    press = page.keyboard.press
    for _ in range(10):
        press("Tab")
        if page.evaluate("document.activeElement.id") == "pad":
            break
    keys = ["ArrowLeft"] * 5 + ["ArrowUp"] * 3 + [" "] + ["ArrowRight"] * 9
    keys += ["ArrowDown", "ArrowDown", "ArrowLeft"] * 6 + [" "]  # a 7
    for key in keys:
        press(key)
    assert page.inner_text("#said") == "Pen lifted."
    for _ in range(15):
        press("Tab")
        if page.evaluate("document.activeElement.id") == "ask":
            break
    press("Enter")
    assert answered(page).startswith("The model says 7")
    page.focus("#pad")
    press("Backspace")
    assert page.inner_text("#said") == "Nothing drawn."


def test_on_a_phone(browser: Any, url: str) -> None:
    with visit(browser, url, **PHONE) as page:
        finger = page.context.new_cdp_session(page)
        box = page.locator("#pad").bounding_box()
        points = [(0.55, 0.15), (0.52, 0.4), (0.5, 0.6), (0.48, 0.85)]
        for kind, point in zip(["touchStart", *["touchMove"] * 3], points, strict=True):
            at = {"x": box["x"] + point[0] * box["width"], "y": box["y"] + point[1] * box["width"]}
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert page.evaluate("scrollY") == 0  # drawing does not scroll
        assert ask(page).startswith("The model says 1")
        play(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for button in page.get_by_role("button").all():
            if button.is_visible():
                assert min(button.bounding_box()[side] for side in ("width", "height")) >= 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, url: str, scheme: str) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text()
    run = """async () => (await axe.run()).violations.map(
      ({ id, nodes }) => [id, ...nodes.map((node) => node.html)])"""
    with visit(browser, url, color_scheme=scheme) as page:
        page.evaluate(axe)
        assert page.evaluate(run) == []
        draw(page, 8)
        ask(page)
        page.wait_for_selector("#accounts .mine")
        page.wait_for_selector("#credit-left:has-text('more go along')")
        assert page.evaluate(run) == []


def test_nothing_moves_for_whom_motion_disturbs(browser: Any, url: str) -> None:
    with visit(browser, url, reduced_motion="reduce") as page:
        moving = page.evaluate(
            """[...document.querySelectorAll("*")].filter((element) => {
              const style = getComputedStyle(element);
              return style.transitionDuration !== "0s" || style.animationName !== "none";
            }).length"""
        )
        assert moving == 0


def test_the_measured_profile_can_be_downloaded(page: Any, tmp_path: Path) -> None:
    page.click("#measure")
    page.wait_for_selector("#download:visible", timeout=600 * SECONDS)
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "profile.json")
    profile = ClientProfile.from_json((tmp_path / "profile.json").read_text())
    assert profile.quick
    assert profile.kernel == "wasm-simd128"
    assert {rate.kernel for rate in profile.rates} == {"wasm-simd128", "javascript"}
    assert page.locator("#rates tr").count() == len(profile.rates)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", None, 200),
        ("GET", "/page/app.js", None, 200),
        ("GET", "/web/powfast.wasm", None, 200),
        ("GET", "/profile/profile.js", None, 200),
        ("GET", "/page/../site.py", None, 404),
        ("GET", "/docs", None, 404),
        ("POST", "/v1/predict", {"images": [[0.5] * 64]}, 402),
        ("POST", "/bare/predict", {"images": [[0.5] * 63]}, 422),
        ("POST", "/bare/predict", {"images": [[2.0] * 64]}, 422),
        ("POST", "/bare/predict", {"images": "no"}, 422),
    ],
)
def test_every_response_carries_the_policy(
    url: str, method: str, path: str, body: Any, status: int
) -> None:
    answer = httpx.request(method, url + path, json=body)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_port_that_is_taken_is_told_before_anything_is_prepared(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--serve", "--port", url.rpartition(":")[2]]) == 2
    assert "in use" in capsys.readouterr().err
