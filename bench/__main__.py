"""All measurements, one after the other: ``python -m bench``."""

import sys

from bench import check, explore, many, prove, reader, run, scripts, whole


def main() -> None:
    del sys.argv[1:]
    for part in (run, whole, scripts, reader, check, many, explore, prove):
        part.main()


if __name__ == "__main__":
    main()
