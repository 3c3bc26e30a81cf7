"""Check the data of a config: files, pairs, labels, duplicates, balance and statistics."""

from argparse import ArgumentParser, Namespace

from .models import run_command
from .options import add_cfg_options, command_parser, parsed_settings
from .tables import print_table

_ERRORS_FOUND = 1


def build_parser() -> ArgumentParser:
    """Return the options."""
    parser = command_parser(
        __doc__,
        epilog='Exit code: 0 without findings of level error, 1 with them, 2 for wrong options.',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', help='folder for index.html and sheet.png')
    parser.add_argument(
        '--split',
        nargs='+',
        choices=['train', 'val', 'test'],
        default=['train', 'val', 'test'],
        help='data sets to check (default: all; test only if its files are others)',
    )
    parser.add_argument('--workers', type=int, help='threads that read files (default: all CPUs)')
    add_cfg_options(parser)
    return parser


def check(args: Namespace) -> int:
    """Check, print findings and tables, and return the exit code."""
    from ..apis import load_config
    from ..apis.check_data import all_findings, check_data, make_tables

    config = load_config(args.config, cfg_options=parsed_settings(args))
    sources = check_data(config, args.split, workers=args.workers)
    for header, rows in make_tables(sources).values():
        print_table(header, rows)
        print()
    found = all_findings(sources)
    for one in found:
        print(f'{one.level}, {one.split}: {one.problem}: {one.count}')
        print(*(f'    {name}  {text}'.rstrip() for name, text in one.examples), sep='\n')
        print(f'  {one.advice}\n')
    levels = [one.level for one in found]
    print(', '.join(f'{one}s: {levels.count(one)}' for one in ('error', 'warning', 'note')))
    if args.out:
        from ..apis.check_page import write_report

        print(write_report(sources, args.out, f'Data of {args.config}'))
    return _ERRORS_FOUND if 'error' in levels else 0


def main() -> int:
    """Run the command with the options in `sys.argv`, and return its exit code."""
    return run_command(check, build_parser().parse_args())
