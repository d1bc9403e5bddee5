"""The code blocks of the documentation run as they stand, in their order, in a folder that looks like the repository.

The data are a few generated shapes, and the pretrained backbone and the trained ViT-PCM are there with random weights.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from doc_pages import PAGES, Block, blocks
from mmengine.registry import init_default_scope
from tiny_configs import load_config
from warm_python import start_server, write_command

import mmwsss  # noqa: F401
from mmwsss.registry import MODELS

TIMEOUT = 3600  # seconds, for one page with its slow blocks on a busy machine
LINKED = ('CITATION.cff', 'LICENSE', 'Makefile', 'README.md', 'configs', 'demo', 'docs', 'mmwsss', 'requirements')
OWN_DATA = '--out data/shapes'  # a page that generates them starts without any
NOWHERE = 'http://127.0.0.1:9'  # nobody listens there, so that downloads fail at once
RANDOM_WEIGHTS = {'pretrain_shapes': 500, 'vitpcm_shapes': 600}  # configs and the iterations that they are named by


def has(mark: str | None, page: Path) -> bool:
    return any(block.runs and block.mark == mark for block in blocks(page))


@pytest.fixture(scope='session')
def warm(tmp_path_factory):
    """Folder of the commands ``python`` and ``mmwsss`` with their imports done."""
    folder = tmp_path_factory.mktemp('warm')
    address = folder / 'socket'
    server = start_server(address, folder / 'log.txt')
    write_command(folder / 'python', address)
    write_command(folder / 'mmwsss', address, '-m', 'mmwsss')
    yield folder
    server.stdin.close()
    server.wait()


@pytest.fixture(scope='session')
def materials(tmp_path_factory, load_tool, repository):
    """What every page finds below its folder: ``data/shapes`` and ``work_dirs``."""
    folder = tmp_path_factory.mktemp('materials')
    generate = load_tool('dataset_converters/shapes').generate
    generate(folder / 'data' / 'shapes', train=32, val=4, close_ups=64, progress=False)
    init_default_scope('mmwsss')
    for name, iteration in RANDOM_WEIGHTS.items():
        model = load_config(repository / 'configs' / f'{name}.py').model
        model.backbone.init_cfg = None
        torch.manual_seed(0)
        path = folder / 'work_dirs' / name / f'iter_{iteration}.pth'
        path.parent.mkdir(parents=True)
        torch.save(dict(state_dict=MODELS.build(model).state_dict(), meta=dict(iter=iteration)), path)
        path.with_name('last_checkpoint').write_text(f'work_dirs/{name}/{path.name}', encoding='utf-8')
    return folder


@pytest.fixture
def workspace(tmp_path, materials, repository):
    """Folder in which a page runs; what it writes is its own."""
    for name in (*LINKED, 'tools'):
        if (repository / name).exists():
            (tmp_path / name).symlink_to(repository / name)
    shutil.copytree(materials, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run_page(chosen: list[Block], workspace: Path, warm: Path, tests: Path) -> None:
    """Run ``chosen`` blocks of one page.

    Raises:
        AssertionError: one has failed; the message names it and shows the end of the output.
    """
    fields = [
        dict(where=str(block), language=block.language, text=block.script, file=block.mark == 'file' and block.detail)
        for block in chosen
    ]
    if any(OWN_DATA in block.text for block in chosen):
        shutil.rmtree(workspace / 'data')
    listing = workspace / '.blocks.json'
    listing.write_text(json.dumps(fields), encoding='utf-8')
    environment = {name: value for name, value in os.environ.items() if not name.startswith('MMWSSS_')}
    environment |= dict(PATH=f'{warm}{os.pathsep}{os.environ["PATH"]}', CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
    environment |= dict.fromkeys(('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'), NOWHERE) | dict(
        no_proxy=''
    )
    done = subprocess.run(
        [warm / 'python', tests / 'run_page.py', listing],
        cwd=workspace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize('page', [page for page in PAGES if has(None, page)], ids=lambda page: page.stem)
def test_blocks_run(page, workspace, warm, repository):
    chosen = [block for block in blocks(page) if (block.runs and block.mark is None) or block.mark == 'file']
    run_page(chosen, workspace, warm, repository / 'tests')


def test_a_failing_block_is_named(workspace, warm, repository):
    works = Block(PAGES[0], 1, 'python', 'value = 1\n')
    sees_it = Block(PAGES[0], 2, 'python', 'assert value == 1\n')
    fails = Block(PAGES[0], 3, 'bash', 'python -c "raise SystemExit(3)"\necho later\n')
    with pytest.raises(AssertionError, match=r'README.md:3: exit status 3') as failure:
        run_page([works, sees_it, fails], workspace, warm, repository / 'tests')
    assert 'later' not in str(failure.value)


@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if has('slow', page)], ids=lambda page: page.stem)
def test_all_blocks_run(page, workspace, warm, repository):
    chosen = [block for block in blocks(page) if block.runs or block.mark == 'file']
    run_page(chosen, workspace, warm, repository / 'tests')
