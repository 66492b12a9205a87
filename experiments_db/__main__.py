"""`python -m experiments_db verify DB`: does every record fit its hash, does every reference lead somewhere?"""

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """0 if the database is sound, 1 if not, 2 if it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m experiments_db", description="Check an experiments database.")
    parser.add_argument("verb", choices=["verify"])
    parser.add_argument("database", type=Path)
    args = parser.parse_args(argv)
    from experiments_db.store import Store, StoreError

    try:
        store = Store(args.database, create=False)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 2
    problems = store.verify()
    print("\n".join(problems) or ", ".join(f"{n} {t}" for t, n in store.counts().items()) + ": all verified")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
