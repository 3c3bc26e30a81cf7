"""The command `vit-dense`: one module per command, imported when that command is called."""

import difflib
import os
import sys
from importlib import import_module
from pathlib import Path

from ..version import __version__

__all__ = ['COMMANDS', 'is_own_command', 'main']

PROGRAM = 'vit-dense'
# Command -> module of this package with a function `main`, and one line of help.
COMMANDS = {
    'init': ('init', 'write a config for a folder of labelled images'),
    'prepare': ('prepare', 'unpack and verify ADE20K, COCO, VOC2012 or Cityscapes'),
    'train': ('train', 'train a model from a config'),
    'test': ('test', 'evaluate a checkpoint'),
    'predict': ('predict', 'predict images, folders and videos with a trained model'),
    'export': ('export', 'write a model as ONNX or OpenVINO file, compared with the model'),
    'serve': ('serve', 'serve a page in the browser to try a model'),
    'inspect': ('inspect_model', 'draw features, attention and relevance for one image'),
    'analyze': ('analyze', 'count parameters, multiply-adds, memory and images/s of a config'),
    'check': ('check', 'check the data of a config, with a report of what is wrong'),
    'probe': ('probe', 'rank timm models on the data of a config, without training'),
    'plot': ('plot', 'draw learning curves and figures of each class of trainings'),
    'convert-data': ('convert_data', 'write the data of a config in the layout of ADE20K or COCO'),
    'convert': ('convert', 'convert a weight file to the names of this package'),
    'merge-lora': ('merge_lora', 'write the weights of a checkpoint alone, LoRA merged'),
    'run': ('run', 'run a script of another project without compiled mmcv ops'),
    'doctor': ('doctor', 'report versions, and what is broken in this environment'),
}
_USAGE_ERROR = 2
_CLOSED_PIPE = 128 + 13  # as a shell reports a process that SIGPIPE ended


def main() -> int:
    """Run the command that `sys.argv` names, and return the exit code of the process.

    Output into a pipe whose reader has ended, as in `vit-dense doctor | head`, ends silently.
    """
    try:
        try:
            return _run()
        finally:
            print(end='', flush=True)
    except BrokenPipeError:
        if not _is_stdout_closed():
            raise
        # Python flushes once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE


def _is_stdout_closed() -> bool:
    """Return whether nobody reads stdout; pipes to other processes break, too."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def _run() -> int:
    arguments = sys.argv[1:]
    if not arguments:
        print(_usage(), file=sys.stderr)
        return _USAGE_ERROR
    name = arguments[0]
    if name in ('-h', '--help'):
        print(_usage())
        return 0
    if name == '--version':
        print(f'{PROGRAM} {__version__}')
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f' Did you mean {close[0]}?' if close else ''
        print(f'Error: {PROGRAM} has no command {name!r}.{hint}\n{_usage()}', file=sys.stderr)
        return _USAGE_ERROR
    # What the parsers of the commands read, and print as the name of the program.
    sys.argv = [f'{PROGRAM} {name}', *arguments[1:]]
    code: int = import_module(f'.{COMMANDS[name][0]}', __name__).main()
    return code


def is_own_command() -> bool:
    """Return whether this process was started as `vit-dense` or as one of the scripts in `tools/`.

    The scripts set `VIT_DENSE_COMMAND`. Processes that a command spawns do not count: in them the
    script is not `__main__`, and nothing calls its `main`.
    """
    script = sys.modules.get('__main__')
    if getattr(script, 'VIT_DENSE_COMMAND', False):
        return True
    started, given = sys.argv[:1], sys.orig_argv
    if started == ['-m']:  # while Python locates the package
        return '-m' in given and given[given.index('-m') + 1] == 'vit_dense'
    return [Path(one).stem for one in started] == [PROGRAM]


def _usage() -> str:
    lines = [f'  {name:11} {text}' for name, (_, text) in COMMANDS.items()]
    return '\n'.join(
        [
            f'usage: {PROGRAM} COMMAND ...',
            '',
            'commands:',
            *lines,
            '',
            f'{PROGRAM} COMMAND --help lists the options of a command.',
        ]
    )
