"""A Python whose imports are done: programs start in forks of it, in milliseconds instead of many seconds.

``serve`` waits for programs at a socket, ``run`` hands one over with its arguments, folder, environment and standard
streams and ends with its exit status. ``write_command`` makes a command ``python`` of that.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

# What tools import late, when they draw, score or print.
IMPORTS = ('mmwsss.register_all', 'matplotlib.pyplot', 'sklearn.metrics', 'yapf.yapflib.yapf_api', 'rich.progress')


def write_command(path: Path, address: Path, *first: str) -> None:
    """Write an executable that runs ``python *first ARGUMENTS`` at the server of ``address``."""
    words = ' '.join(f"'{word}'" for word in (sys.executable, '-I', '-S', __file__, 'run', str(address), *first))
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding='utf-8')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def start_server(address: Path, log: Path) -> subprocess.Popen:
    """Server at the socket ``address``, ready for programs; what it prints goes to ``log``.

    Raises:
        RuntimeError: it ends at once, with the text of ``log``.
    """
    with log.open('wb') as stream:
        server = subprocess.Popen(
            [sys.executable, __file__, 'serve', str(address)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
        )
    if not server.stdout.readline():
        raise RuntimeError(f'no warm Python: {log.read_text(encoding="utf-8")}')
    return server


def serve(address: str) -> None:
    """Import what all tools do, say ``ready`` and run programs until standard input is closed."""
    import torch

    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # mmengine asks for a collection with every data set
    torch.set_num_threads(1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended forks leave nothing behind
    print('ready', flush=True)
    while select.select([listener, sys.stdin], [], [])[0] == [
        listener
    ]:  # its end is that of the process that started us
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    import torch

    torch.set_num_threads(1)
    message, streams, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile('rb') as pipe:
        message += pipe.readline()
    request = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request['environment'])
    os.chdir(request['folder'])
    status = _status(request['arguments'])
    connection.sendall(bytes([status]))
    os._exit(status)


def _status(arguments: list[str]) -> int:
    import atexit
    import traceback

    try:
        _execute(arguments)
        status = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status % 256


def _execute(arguments: list[str]) -> None:
    import runpy

    paths = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    if arguments[0] == '-c':
        sys.argv, sys.path[:1] = ['-c', *arguments[2:]], ['', *filter(None, paths)]
        exec(compile(arguments[1], '<string>', 'exec'), {'__name__': '__main__'})
    elif arguments[0] == '-m':
        sys.argv, sys.path[:1] = arguments[1:], [os.getcwd(), *filter(None, paths)]
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv, sys.path[:1] = list(arguments), [str(Path(arguments[0]).parent), *filter(None, paths)]
        runpy.run_path(arguments[0], run_name='__main__')


def run(address: str, *arguments: str) -> int:
    """Hand a program over and wait for its exit status; 1 where it ended without one."""
    request = dict(arguments=arguments, folder=os.getcwd(), environment=dict(os.environ))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        message = json.dumps(request).encode() + b'\n'
        socket.send_fds(connection, [message[:1]], [0, 1, 2])
        connection.sendall(message[1:])
        return (connection.recv(1) or b'\x01')[0]


if __name__ == '__main__':
    sys.exit({'serve': serve, 'run': run}[sys.argv[1]](*sys.argv[2:]))
