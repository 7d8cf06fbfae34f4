#!/usr/bin/env python
"""Lines of code of each room of a package: no blanks, comments and docstrings.

scripts/count_lines.py [FOLDER]
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_lines(text: str) -> int:
    """Return how many lines of a module hold code."""
    docs = set[int]()
    for node in ast.walk(ast.parse(text)):
        constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if constant and isinstance(node.value.value, str):
            docs.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    found = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            found.update(range(token.start[0], token.end[0] + (token.type != tokenize.ENDMARKER)))
    return len(found - docs)


def main() -> None:
    top = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "popdyn")
    lines, files = Counter[str](), Counter[str]()
    for path in top.rglob("*.py"):
        parts = path.relative_to(top).parts
        room = parts[0] if len(parts) > 1 else "(top)"
        lines[room] += code_lines(path.read_text())
        files[room] += 1
    for room in sorted(lines):
        print(f"{room:14}{files[room]:5} files{lines[room]:7} lines")
    print(f"{'sum':14}{files.total():5} files{lines.total():7} lines")


if __name__ == "__main__":
    main()
