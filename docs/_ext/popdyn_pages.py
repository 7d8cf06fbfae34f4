"""Pages written from the program itself: registries, commands, the gallery's cards."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from popdyn_pictures import PICTURED, picture
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from popdyn.base.options import options_in
from popdyn.cli import COMMANDS, group
from popdyn.cli.list_ import registry_of

TEXTS = {"minimised_by": "Minimised by", "bias": "Bias", "avoid": "Avoid"}


class Registry(SphinxDirective):
    """``{registry} potentials``: every entry of a registry."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kind = self.arguments[0]
        entries = dict(registry_of(kind))
        folder = Path(self.env.srcdir) / "build" / "pictures"
        if kind in PICTURED:
            cards = [
                f":::{{grid-item-card}} {name}\n:img-top: /{picture(kind, name, e, folder)}\n"
                f":img-alt: {name}\n\n{facts(kind, name, e)}\n:::"
                for name, e in entries.items()
            ]
            text = "::::{grid} 1 2 3 3\n:gutter: 2\n\n" + "\n\n".join(cards) + "\n::::\n"
        else:
            text = "\n\n".join(f"## {n}\n\n{facts(kind, n, e)}" for n, e in entries.items())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def facts(kind: str, name: str, entry: Any) -> str:
    """Return what an entry says of itself, as Markdown."""
    parts = [f"{plain(entry.summary)}" if getattr(entry, "summary", "") else ""]
    if getattr(entry, "formula", ""):
        parts.append(f"`{entry.formula}`")
    parts += [
        f"**{label}:** {plain(getattr(entry, key))}"
        for key, label in TEXTS.items()
        if getattr(entry, key, "")
    ]
    if kind == "schemes":
        orders = [f"{o:g}" if (o := getattr(entry, f"{w}_order")) else "–" for w in ORDERS]
        parts.append(f"Strong order {orders[0]}, weak order {orders[1]}, for additive noise.")
    if kind == "formats":
        ends = ", ".join(f"`{s}`" if s else "a folder" for s in entry.suffixes)
        able = [w for w in ("read", "write") if getattr(entry, w) is not None]
        parts.append(f"Names end in: {ends}. popdyn can {' and '.join(able)} it.")
    if kind == "scores":
        parts.append(f"[More](../scores/{name}.md)")
    if kind == "suites":
        parts.append(f"[Card](../../datasets/{name}/README.md), {len(entry.entries)} entries:")
        parts.append("\n".join(f"- `{e.name}`: {plain(e.summary or '')}" for e in entry.entries))
    parameters = getattr(entry, "parameters", None)
    if parameters:
        usual = ", ".join(f"`{k}={written(v)}`" for k, v in parameters.items())
        parts.append(f"Parameters: {usual}")
    options = getattr(entry, "options", None)
    if isinstance(options, type) and options_in(options):
        parts += [
            f"`{o.name}` = `{written(o.default)}`\n"
            f": {line(o.meaning)}" + (f" *Expected: {line(o.expected)}.*" if o.expected else "")
            for o in options_in(options).values()
        ]
    return "\n\n".join(p for p in parts if p)


ORDERS = ("strong", "weak")


class Commands(SphinxDirective):
    """``{commands}``: every command, its options and examples, from click."""

    def run(self) -> list[nodes.Node]:
        sections = []
        for name in COMMANDS:
            command = group.get_command(click.Context(group), name)
            assert command is not None
            context = click.Context(command, info_name=f"popdyn {name}")
            usage = " ".join(command.collect_usage_pieces(context))
            text, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:")
            example = inspect.cleandoc("\n" + example)
            records = [p.get_help_record(context) for p in command.get_params(context)]
            shown = [f"`{' '.join(r[0].split())}`\n: {line(r[1])}" for r in records if r and r[1]]
            sections.append(
                f"## {name}\n\n`popdyn {name} {usage}`\n\n{plain(text)}\n\n"
                + (f"```bash\n{example}\n```\n\n" if example else "")
                + "\n\n".join(shown)
            )
        return self.parse_text_to_nodes("\n\n".join(sections), allow_section_headings=True)


def plain(text: str) -> str:
    """Return a docstring's text as Markdown."""
    text = re.sub(r":\w+(?::\w+)?:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", text)
    text = text.replace("``", "`").replace("\b\n", "")
    # Outside of code a star, a bar or a bracket is meant as it stands.
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_<\[\]|#])", r"\\\1", p) for p in parts)


def line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(plain(text or "").split())


def written(value: Any) -> str:
    """Return a default as a person writes it."""
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(map(written, value)) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


class GalleryCards(SphinxDirective):
    """``{gallery}``: a card for each notebook, a line each, with the figure of that number."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return [GalleryPlace("", names=self.content.data)]


class GalleryPlace(nodes.General, nodes.Element):
    """Where the cards come, once every notebook has run."""


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the cards in their place: titles, first sentences and figures of the notebooks."""
    for place in list(doctree.findall(GalleryPlace)):
        place.replace_self(nodes.raw("", cards_html(app, docname, place["names"]), format="html"))


def cards_html(app: Sphinx, docname: str, names: list[str]) -> str:
    """Return the cards of some notebooks as HTML."""
    up = "../" * docname.count("/")
    cards = []
    for line in names:
        name, number = line.split()
        page = f"docs/gallery/{name}"
        tree = app.env.get_doctree(page)
        title = app.env.titles[page].astext()
        first = next(iter(tree.findall(nodes.paragraph))).astext()
        images = list(tree.findall(nodes.image))
        shown = ""
        if images:
            file = app.env.images[images[int(number)]["uri"]][1]
            shown = f'<img src="{up}_images/{file}" alt="" loading="lazy">'
        cards.append(
            f'<a class="gallery-card" href="{app.builder.get_relative_uri(docname, page)}">{shown}'
            f"<strong>{title}</strong><span>{first}</span></a>"
        )
    return f'<div class="gallery-cards">{"".join(cards)}</div>'


def keep_colon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep Google's style from reading "the energy: …" of a property as a type."""
    if what in ("attribute", "property"):
        lines.insert(0, "")


def escape_bars(*given: Any) -> None:
    """Keep |x|² and a trailing star of a docstring as they stand."""
    lines: list[str] = given[-1]
    for i, line in enumerate(lines):
        parts = re.split(r"(``[^`]*``|`[^`]*`)", line)
        if not line.lstrip().startswith(">>>"):
            lines[i] = "".join(
                p if p.startswith("`") else re.sub(r"(?<!\\)([|*])", r"\\\1", p) for p in parts
            )


def setup(app: Sphinx) -> dict[str, Any]:
    """Enter the directives."""
    app.add_directive("registry", Registry)
    app.add_directive("commands", Commands)
    app.add_directive("gallery", GalleryCards)
    app.add_node(GalleryPlace)
    app.connect("doctree-resolved", fill)
    app.connect("autodoc-process-docstring", keep_colon, priority=400)
    app.connect("autodoc-process-docstring", escape_bars, priority=900)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": False}
