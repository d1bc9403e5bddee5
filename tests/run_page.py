"""Run the code blocks of a page in their order: Python in one namespace, bash in processes, in the current folder.

Called as ``run_page.py BLOCKS.json``, a list of objects with ``where``, ``language``, ``text`` and ``file``; a block
with a ``file`` is written there. The name of a block is printed before it runs, so the last one printed is at fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main(path: str) -> None:
    """Run the blocks listed in the file ``path``; the first error ends the program."""
    sys.path.insert(0, str(Path.cwd()))
    namespace = {'__name__': 'page'}
    for block in json.loads(Path(path).read_text(encoding='utf-8')):
        print(f'--- {block["where"]}', flush=True)
        if block['file']:
            Path(block['file']).write_text(block['text'], encoding='utf-8')
        elif block['language'] == 'python':
            exec(compile(block['text'], block['where'], 'exec'), namespace)
        else:
            command = ['bash', '-euo', 'pipefail', '-c', block['text']]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
            if done.returncode:
                sys.exit(f'{block["where"]}: exit status {done.returncode}')


if __name__ == '__main__':
    main(sys.argv[1])
