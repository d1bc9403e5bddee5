"""Kill a training and an export of the generated shapes at random moments and compare them with undisturbed ones.

Run by hand: python tests/reliability/random_kills.py --kills 20 --work-dir work_dirs/random_kills

Every program is killed (SIGKILL) after a random time of its work, which begins with its first file, and started again
until all kills are made; then it goes on to its end. It ends with status 1 unless all weights and masks are the same.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import sys
import time
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

os.environ.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = REPOSITORY / 'tools'
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / 'tests')]

from resume_cases import tensors  # noqa: E402
from tiny_configs import CONFIGS, tiny_config, write_data  # noqa: E402

import mmwsss.register_all  # noqa: E402, F401

METHODS = dict(
    vitpcm='vitpcm_shapes.py', cosa='cosa_shapes.py', pmm='pmm/fcn_vit-xt8_1xb16-600_shapes-pseudo_144x144_puf-cp.py'
)


def write_config(path: Path, method: str, data: Path, iterations: int) -> None:
    """A tiny training with workers and a checkpoint after every tenth of it."""
    cfg = tiny_config(CONFIGS / METHODS[method], data, path.parent / 'unused', num_workers=1)
    cfg.train_cfg.update(max_iters=iterations, val_begin=10 * iterations)
    cfg.default_hooks.checkpoint.update(interval=max(iterations // 10, 1), max_keep_ckpts=2)
    for hook in cfg.custom_hooks:
        if hook.type == 'CyclicPseudoMaskHook':
            hook.update(at=[iterations // 3, 2 * iterations // 3])
        if hook.type == 'TwoPhaseTrainHook':
            hook.pop('warmup_epochs', None)
            hook.update(warmup_iters=iterations // 4)
    cfg.pop('work_dir')
    cfg.pop('experiment_name')
    cfg.dump(path)


def start(command: list[str], work_dir: Path) -> Process:
    """Start a tool in a fork of this program, which has done the imports; its output goes to a file."""
    program = multiprocessing.get_context('fork').Process(target=_run, args=(command, work_dir.with_suffix('.log')))
    program.start()
    return program


def _run(command: list[str], log: Path) -> None:
    torch.set_num_threads(1)
    os.setsid()  # with the processes that it starts it can be killed as a group
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = command
    runpy.run_path(command[0], run_name='__main__')


def finish(program: Process, command: list[str], work_dir: Path) -> None:
    """Wait for the end of a program, which has to be a good one."""
    program.join()
    if program.exitcode:
        raise SystemExit(f'{" ".join(command)} ended with {program.exitcode}, see {work_dir.with_suffix(".log")}')


def disturbed(command: list[str], work_dir: Path, kills: int, span: float, draw: random.Random) -> int:
    """Run ``command`` to its end, killed up to ``kills`` times within ``span`` seconds each; returns how often."""
    made = 0
    while True:
        before = newest(work_dir)
        program = start(command, work_dir)
        if made < kills and wait_for_work(program, work_dir, before):
            program.join(draw.uniform(0, span))
            if program.is_alive():
                os.killpg(program.pid, signal.SIGKILL)
                program.join()
                made += 1
                continue
        finish(program, command, work_dir)
        return made


def wait_for_work(program: Process, work_dir: Path, before: float) -> bool:
    """Wait until a program writes something after ``before`` in ``work_dir``; False where it has ended without."""
    while program.is_alive():
        if newest(work_dir) > before:
            return True
        time.sleep(0.02)
    return False


def newest(folder: Path) -> float:
    """Time of the last change below ``folder``."""
    times = [0.0]
    for path in folder.rglob('*'):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # a temporary file
            continue
    return max(times)


def timed(command: list[str], work_dir: Path) -> float:
    """Seconds of work of an undisturbed run."""
    before = newest(work_dir)
    program = start(command, work_dir)
    wait_for_work(program, work_dir, before)
    begun = time.monotonic()
    finish(program, command, work_dir)
    return time.monotonic() - begun


def same_end(first: Path, second: Path, iterations: int) -> bool:
    """Whether two trainings end with the same weights, averages and optimizer."""
    ends = []
    for folder in (first, second):
        content = torch.load(folder / f'iter_{iterations}.pth', weights_only=True)
        ends.append(
            tensors({key: content[key] for key in ('state_dict', 'optimizer', 'ema_state_dict') if key in content})
        )
    return ends[0].keys() == ends[1].keys() and all(
        torch.equal(value, ends[1][name]) for name, value in ends[0].items()
    )


def same_files(first: Path, second: Path, pattern: str) -> bool:
    """Whether two folders hold the same files, at least one, below them."""
    found = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob(pattern)} for folder in (first, second)
    ]
    return bool(found[0]) and found[0] == found[1]


def main() -> int:
    """Kill and compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20, help='of all trainings and exports together (default: 20)')
    parser.add_argument('--iterations', type=int, default=60)
    parser.add_argument('--images', type=int, default=24)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/random_kills'))
    args = parser.parse_args()
    draw, root = random.Random(args.seed), args.work_dir.resolve()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    data = write_data(root / 'data', 'ShapesDataset', train=args.images)
    shares = [args.kills // (len(args.methods) + 1)] * len(args.methods)
    results = {}
    for method, kills in zip(args.methods, shares):
        config = root / f'{method}.py'
        write_config(config, method, data, args.iterations)
        folders = [root / f'{method}_straight', root / f'{method}_killed']
        for folder in folders:
            folder.mkdir()
        commands = [[str(TOOLS / 'train.py'), str(config), '--work-dir', str(folder), '--resume'] for folder in folders]
        span = timed(commands[0], folders[0])
        made = disturbed(commands[1], folders[1], kills, span / max(kills, 1) * 2, draw)
        equal = same_end(*folders, args.iterations)
        if method == 'pmm':
            equal = equal and same_files(*(folder / 'cyclic_masks' for folder in folders), '*.png')
        results[f'training of {method}'] = dict(kills=made, equal=equal)
    results['export'] = export(root, args.methods[0], args.kills - sum(shares), draw, args.iterations)
    total = sum(result['kills'] for result in results.values())
    equal = all(result['equal'] for result in results.values())
    print(json.dumps(dict(results, kills=total, all_equal=equal), indent=2))
    return 0 if equal and total == args.kills else 1


def export(root: Path, method: str, kills: int, draw: random.Random, iterations: int) -> dict[str, object]:
    """Kill an export of pseudo masks with the dense CRF from the training of ``method``."""
    folders = [root / 'export_straight', root / 'export_killed']
    commands = []
    for folder in folders:
        folder.mkdir()
        checkpoint = root / f'{method}_straight' / f'iter_{iterations}.pth'
        command = [
            TOOLS / 'generate_pseudo_labels.py',
            root / f'{method}.py',
            checkpoint,
            '--out',
            folder,
            '--steps',
            'crf',
        ]
        commands.append([*map(str, command), '--workers', '1'])
    span = timed(commands[0], folders[0])
    made = disturbed(commands[1], folders[1], kills, span / max(kills, 1) * 2, draw)
    return dict(kills=made, equal=same_files(*(folder / 'masks' for folder in folders), '*.png'))


if __name__ == '__main__':
    sys.exit(main())
