"""The page of a report: what it says, what it escapes, and what it says where something is missing."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mmwsss.apis.errors import UsageError
from mmwsss.reports.collect import collect_runs
from mmwsss.reports.content import page_data
from mmwsss.reports.page import build_page, json_for_html
from mmwsss.reports.recording import Recorder


class Elements(HTMLParser):
    """All elements of a page, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.text, self._open = [], [], '', None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._open = tag
        self.addresses += [value for key, value in attrs if key in ('src', 'href', 'action', 'srcset')]

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open not in ('script', 'style'):
            self.text += data


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(',', 1)[1])))


def test_scores_with_their_protocols(evaluated):
    text = Elements(build_page(evaluated('first', 'second'), 'val')).text
    for part in (
        'Evaluated for this report on val', 'first, iter_30.pth', '50.00', '51.00', 'ms+flip+crf+tags_mIoU',
        'prediction, several scales, mirror images, dense CRF', 'ms at scales 0.5 & 1', 'first, 20260102_000000',
        '60.50', 'Last validation of the training', 'second, iteration 30', '41.50',
    ):  # fmt: skip
        assert part in text


def test_the_better_of_two_scores_is_marked(evaluated):
    page = build_page(evaluated('first', 'second'), 'val')
    assert '<b>51.00</b>' in page
    assert '<b>50.00</b>' not in page
    assert '<b>0.4</b>' not in page  # a setting is neither good nor bad


def test_a_score_that_is_no_number(evaluated):
    runs = evaluated('a', 'b', 'c')
    runs[0].evaluation.content['scores']['seg_mIoU'] = float('nan')
    page = build_page(runs, 'val')
    assert '<td class="number none">–</td><td class="number">51.00</td><td class="number"><b>52.00</b></td>' in page


def test_charts_and_matrices(evaluated):
    data = page_data(evaluated('first', 'second'))
    loss = next(chart for chart in data['training'] if chart['name'] == 'loss')
    assert loss['group'] == 'Losses'
    assert loss['series'][0] == {'run': 0, 'x': [10, 20, 30], 'y': [0.1, 0.05, 0.0333333]}
    assert {chart['name'] for chart in data['training']} == {'loss', 'lr', 'seg_mIoU', 'pseudo_mIoU+tags'}
    (sweep,) = data['sweeps']  # of the evaluations; the stored one is older
    assert sweep['log']
    assert [series['configured'] for series in sweep['series']] == [0.1, 0.1]
    assert data['perClass']['seg_IoU'][1]['values']['bird'] is None
    assert [(entry['run'], entry['kind']) for entry in data['confusion']] == [
        (0, 'prediction'), (0, 'pseudo'), (1, 'prediction'), (1, 'pseudo'),
    ]  # fmt: skip
    for entry in data['confusion']:
        assert [round(sum(row), 1) for row in entry['rows']] == [100.0] * 4


def test_gallery_has_scores_and_pictures_of_every_image(evaluated):
    runs = evaluated('first', 'second')
    gallery = page_data(runs)['gallery']
    assert gallery['total'] == len(gallery['images']) == 6
    first = gallery['images'][0]
    assert first['truth'] == [0, 1]
    assert first['runs'][0]['iou']['prediction'] == {'mean': 100.0, 'classes': {'0': 100.0, '1': 100.0}}
    # Of 12 x 12 pixels 11 x 11 were found, all of them right.
    assert first['runs'][1]['iou']['prediction']['classes']['1'] == round(100 * 121 / 144, 2)
    assert set(first['pictures']) == {'image', 'truth'}
    truth = picture(first['pictures']['truth']).convert('RGBA')
    assert truth.getpixel((2, 2)) == (200, 30, 30, 255)
    assert truth.getpixel((30, 2))[3] == 0  # the background lets the image through
    assert truth.getpixel((30, 12)) == (211, 211, 211, 255)  # ignored
    maps = np.asarray(picture(first['runs'][0]['pictures']['maps']).convert('RGBA')).astype(int)
    assert abs(maps[4, 4, 3] - 204) < 12
    assert abs(maps[4, 4, :3] - (200, 30, 30)).max() < 40


def test_fewer_images_are_spread_over_the_split(evaluated):
    gallery = page_data(evaluated('first'), 2)['gallery']
    assert [image['name'] for image in gallery['images']] == ['img_0<x>', 'img_5<x>']
    assert gallery['total'] == 6


def test_names_are_text_and_no_markup(evaluated):
    runs = evaluated('<img src=x onerror=alert(1)>', 'a"b&c')
    page = build_page(runs, 'val')
    elements = Elements(page)
    assert 'img' not in elements.tags  # pictures are made by the script
    assert 'b' in elements.tags
    assert elements.tags.count('script') == 2
    assert '<img src=x onerror=alert(1)>' in elements.text
    assert data_of(page)['classes'][1] == '<b>cat & "dog"'
    assert data_of(page)['gallery']['images'][3]['name'] == 'img_3<x>'


def test_json_cannot_end_its_element():
    text = json_for_html({'</script><!--': ['\u2028', '&']})
    assert not set('<>&\u2028') & set(text)
    assert json.loads(text) == {'</script><!--': ['\u2028', '&']}


def test_what_is_filled_in_is_no_template(evaluated):
    text = Elements(build_page(evaluated('{{data}}'), 'val')).text
    assert text.count('{{data}}, iter_30.pth') == 2


def test_page_refers_to_nothing_else(evaluated):
    page = build_page(evaluated('first', 'second'), 'val')
    assert all(address.startswith(('#', 'data:')) for address in Elements(page).addresses)
    assert not re.search(r'@import|url\(|fetch\(|XMLHttpRequest|import\(', page)
    outside = re.sub(r'http://www\.w3\.org/2000/svg', '', page)
    assert 'http' not in outside.replace('http-equiv', '')


def test_same_content_same_page(evaluated):
    runs = evaluated('first', 'second')
    assert build_page(runs, 'val') == build_page(runs, 'val')


def test_everything_missing_is_named_with_a_command(tmp_path):
    (tmp_path / 'my run').mkdir()
    text = Elements(build_page(collect_runs([str(tmp_path / 'my run')]), 'val')).text
    quoted = f"'{tmp_path / 'my run'}'"
    for part in (
        'no scalars.json with losses or scores of a training', f'python tools/train.py CONFIG --work-dir {quoted}',
        'no metrics.json', f'python tools/test.py CONFIG {quoted} --work-dir {quoted}',
        'no checkpoint (last_checkpoint)', 'no sweep.json', f'threshold_sweep.py CONFIG {quoted} --out {quoted}/sweep',
        'no scores of single classes',
    ):  # fmt: skip
        assert part in text


def test_a_log_with_scores_of_validation_only(tmp_path):
    log = tmp_path / 'run' / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({'seg_mIoU': 15.83, 'mAP': 31.5, 'time': 0.2, 'step': 5}) + '\n')
    page = build_page(collect_runs([str(tmp_path / 'run')]), 'val')
    text = Elements(page).text
    for part in (
        'Last validation of the training', 'run, iteration 5', '15.83',
        'no losses in the log; they are written every default_hooks.logger.interval iterations',
    ):  # fmt: skip
        assert part in text
    assert 'no scalars.json' not in text
    assert {chart['name']: chart['group'] for chart in data_of(page)['training']} == {
        'seg_mIoU': 'Scores of validation', 'mAP': 'Scores of validation',
    }  # fmt: skip


def test_no_training_into_a_folder_with_weights(tmp_path):
    (tmp_path / 'iter_2.pth').write_text('')
    (tmp_path / 'last_checkpoint').write_text('iter_2.pth')
    text = Elements(build_page(collect_runs([str(tmp_path)]), 'val')).text
    assert 'no scalars.json with losses or scores of a training' in text
    assert 'tools/train.py' not in text


def test_without_evaluation_stored_results_are_shown(make_work_dir):
    runs = collect_runs([str(make_work_dir('first'))])
    data = page_data(runs)
    assert data['sweeps'][0]['series'][0]['y'] == [30.0, 35.0]
    assert data['gallery']['images'] == data['confusion'] == []
    text = Elements(build_page(runs, 'val')).text
    assert 'Recorded by tools/test.py' in text
    assert 'no metrics.json' not in text
    assert 'no checkpoint (last_checkpoint), so no image was evaluated' in text


def test_without_masks_the_gallery_has_no_truth(evaluated):
    (run,) = evaluated('first')
    recorder = Recorder(run.folder / 'report' / 'val', ['background', 'cat'], [(0, 0, 0), (9, 9, 9)])
    recorder.add('one', np.zeros((8, 8, 3), np.uint8), prediction=np.ones((8, 8), np.int64))
    run.evaluation = recorder.finish(
        key={}, split='test', scores={}, per_class={}, curves={}, settings={}, protocol='', source='iter_30.pth'
    )
    text = Elements(build_page([run], 'test')).text
    assert 'the split test has no masks to compare with' in text
    assert 'no maps and pseudo masks: iter_30.pth makes none' in text
    (image,) = page_data([run])['gallery']['images']
    assert image['truth'] is None
    assert image['runs'][0]['found'] == {'prediction': [1]}


def test_runs_of_other_classes_are_refused(evaluated):
    first, second = evaluated('first', 'second')
    second.evaluation.content['classes'][1] = 'cow'
    with pytest.raises(UsageError, match='second and first have different classes'):
        build_page([first, second], 'val')
