"""The page in headless Chromium; skipped where there is no browser."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mmwsss.reports.page import build_page

webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
OPTIONS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--window-size=1300,900',
    '--force-prefers-reduced-motion',
)  # fmt: skip


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    """A browser that notes messages and requests."""
    program, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which('chromedriver')
    if program is None or driver is None:
        pytest.skip('no Chromium with chromedriver on the PATH')
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (*OPTIONS, f'--user-data-dir={tmp_path_factory.mktemp("browser")}'):
        options.add_argument(option)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield running
    running.quit()


@pytest.fixture
def page(browser, evaluated, tmp_path):
    """Show the report on runs of these names; at the end there must be no message and no request but for the page."""

    def show(*names):
        path = tmp_path / 'page.html'
        path.write_text(build_page(evaluated(*names), 'val'), encoding='utf-8')
        browser.get(path.as_uri())
        return browser

    browser.get_log('browser')
    browser.get_log('performance')
    yield show
    assert browser.get_log('browser') == []
    messages = (json.loads(entry['message'])['message'] for entry in browser.get_log('performance'))
    sent = [message['params'] for message in messages if message['method'] == 'Network.requestWillBeSent']
    # The browser's own start page asks for its parts.
    asked = {event['request']['url'] for event in sent if not event['documentURL'].startswith('chrome')}
    assert {address for address in asked if not address.startswith('data:')} == {(tmp_path / 'page.html').as_uri()}
    assert {cookie['name'] for cookie in browser.get_cookies()} == set()


def names(browser):
    """Names of the listed images, in order."""
    return [card.get_attribute('aria-label') for card in browser.find_elements(By.CSS_SELECTOR, '.shot')]


def count(browser):
    return browser.find_element(By.ID, 'count').text


def chip(browser, label):
    return browser.find_element(By.CSS_SELECTOR, f'.chip[data-class="{label}"]')


def choose(browser, label, value):
    selects = browser.find_elements(By.CSS_SELECTOR, '#gallery label')
    (found,) = (item for item in selects if item.text.startswith(label))
    Select(found.find_element(By.TAG_NAME, 'select')).select_by_value(value)


def test_worst_first_and_filter_by_class(page):
    browser = page('first')
    assert count(browser) == '6 of 6 images'
    assert names(browser) == [f'img_{i}<x>' for i in (5, 4, 3, 2, 1, 0)]
    chip(browser, 2).click()
    assert count(browser) == '2 of 6 images'
    assert chip(browser, 2).get_attribute('aria-pressed') == 'true'
    assert names(browser) == ['img_4<x>', 'img_1<x>']
    card = browser.find_element(By.CSS_SELECTOR, '.shot')
    WebDriverWait(browser, 5).until(lambda _: card.find_elements(By.CSS_SELECTOR, '[data-kind="prediction"] .iou'))
    # 4 x 4 pixels of a square of 12 x 12 were found.
    assert card.find_element(By.CSS_SELECTOR, '[data-kind="prediction"] .iou').text == f'{100 * 16 / 144:.1f}'
    Select(browser.find_element(By.ID, 'sort')).select_by_value('best')
    assert names(browser) == ['img_1<x>', 'img_4<x>']
    choose(browser, 'class is', 'extra')
    assert count(browser) == '0 of 6 images'
    browser.find_element(By.CSS_SELECTOR, '.cards .empty button').click()
    assert count(browser) == '6 of 6 images'


def test_search_by_name(page):
    browser = page('first')
    browser.find_element(By.CSS_SELECTOR, '#gallery input[type="search"]').send_keys('IMG_3')
    assert names(browser) == ['img_3<x>']


def test_a_class_of_the_bars_is_shown_in_the_gallery(page):
    browser = page('first')
    bars = browser.find_elements(By.CSS_SELECTOR, '.bar-row .name')
    assert [bar.text for bar in bars] == ['background', '<b>cat & "dog"', "it's"]
    bars[1].click()
    assert count(browser) == '2 of 6 images'


def test_runs_side_by_side(page):
    browser = page('first', 'second')
    card = browser.find_element(By.CSS_SELECTOR, '.shot')
    browser.execute_script('arguments[0].scrollIntoView()', card)
    WebDriverWait(browser, 5).until(lambda _: card.find_elements(By.CSS_SELECTOR, '.row-run'))
    assert [row.text for row in card.find_elements(By.CSS_SELECTOR, '.row-run')] == ['first', 'second']
    kinds = [tile.get_attribute('data-kind') for tile in card.find_elements(By.CSS_SELECTOR, '.tile')]
    assert kinds == ['image', 'truth', *['maps', 'pseudo', 'prediction'] * 2]
    loaded = 'return [...arguments[0].querySelectorAll("img")].every(i => i.complete && i.naturalWidth === 36)'
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(loaded, card))
    ious = [float(label.text) for label in card.find_elements(By.CSS_SELECTOR, '[data-kind="prediction"] .iou')]
    assert ious[0] > ious[1]  # what the second run finds is smaller by a pixel
    choose(browser, 'sort', 'apart')
    images = browser.execute_script('return JSON.parse(document.getElementById("data").textContent).gallery.images')
    means = {image['name']: [run['iou']['prediction']['mean'] for run in image['runs']] for image in images}
    assert names(browser) == sorted(means, key=lambda name: -abs(means[name][0] - means[name][1]))
    assert len(browser.find_elements(By.CSS_SELECTOR, '#threshold svg .line')) == 2
    assert len(browser.find_elements(By.CSS_SELECTOR, '#training figure:first-child svg .line')) >= 2


def test_light_and_dark(page):
    browser = page('first')
    button = browser.find_element(By.ID, 'theme')
    colour = 'return getComputedStyle(document.body).backgroundColor'
    while 'light' not in button.get_attribute('data-value'):
        button.click()
    light = browser.execute_script(colour)
    screenshot = np.array(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert('L'))
    button.click()
    assert button.get_attribute('data-value') == 'dark'
    assert browser.execute_script(colour) != light
    dark = np.array(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert('L'))
    assert screenshot.mean() > 200
    assert dark.mean() < 80
    assert min(screenshot.std(), dark.std()) > 10  # there is something to see
    button.click()


def test_by_keyboard_alone(page):
    browser = page('first')
    matrix = browser.find_element(By.CSS_SELECTOR, '.matrix svg')
    browser.execute_script('arguments[0].focus()', matrix)
    matrix.send_keys(Keys.ARROW_DOWN)
    readout = browser.find_element(By.CSS_SELECTOR, '.readout').text
    assert readout.endswith('% of all pixels) → background')
    assert '% of <b>cat & "dog"' in readout
    chart = browser.find_element(By.CSS_SELECTOR, '#training svg')
    browser.execute_script('arguments[0].focus()', chart)
    chart.send_keys(Keys.ARROW_LEFT)
    assert browser.find_element(By.ID, 'tip').text.startswith('loss at 20')
    card = browser.find_element(By.CSS_SELECTOR, '.shot')
    browser.execute_script('arguments[0].scrollIntoView()', card)
    WebDriverWait(browser, 5).until(lambda _: card.find_elements(By.CSS_SELECTOR, '.tile'))
    card.find_element(By.CSS_SELECTOR, '.tile').send_keys(Keys.ENTER)
    viewer = browser.find_element(By.ID, 'viewer')
    assert viewer.is_displayed()
    assert 'image' in viewer.text
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert 'maps' in viewer.text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not viewer.is_displayed()


def test_narrow_windows_need_no_sideways_scrolling(page):
    browser = page('first', 'second')
    browser.set_window_size(500, 900)
    try:
        assert browser.execute_script('return document.documentElement.scrollWidth <= innerWidth')
    finally:
        browser.set_window_size(1300, 900)
