"""Pictures of Markdown files as GitHub shows a comment, light and dark.

    python -m tests.render IN.md [IN2.md ...] --to DIR [--open]

For people to look at: nothing is compared. Needs Chromium on PATH, and node_modules.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.environments import ROOT
from tests.harness.gfm import render

_NODE_MODULES = ROOT / "node_modules"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDTH = 920
_TIMEOUT = 120

# The sandbox of a browser does not work in most containers, nor for root; the page is our own.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # So that Mermaid gets to finish.
    "--virtual-time-budget=20000",
)

# A comment on GitHub: its text has a margin of 16 pixels in a frame.
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="stylesheet" href="{css}">
<style>
  body {{ margin: 0; padding: 16px; background: {background}; }}
  .comment {{ border: 1px solid {frame}; border-radius: 6px; padding: 16px; font-size: 14px; }}
  .markdown-body .mermaid {{ background: none; border: 1px solid {frame}; }}
  .markdown-body .mermaid:not(.failed) {{ text-align: center; }}
</style>
<div class="comment markdown-body">
{content}
</div>
<script src="{mermaid}"></script>
<script>
  mermaid.initialize({settings});
  const draw = async (block, number) => {{
    try {{
      const {{ svg }} = await mermaid.render(`drawn-${{number}}`, block.textContent);
      block.innerHTML = svg;
    }} catch (error) {{
      // As GitHub does.
      block.prepend(`Unable to render rich display\n\n${{error.message}}\n\n`);
      block.classList.add("failed");
    }}
  }};
  (async () => {{
    // One after the other: Mermaid is not made for more.
    for (const [number, block] of [...document.querySelectorAll("pre.mermaid")].entries()) {{
      await draw(block, number);
    }}
    const {{ height }} = document.body.getBoundingClientRect();
    document.documentElement.dataset.height = Math.ceil(height);
  }})();
</script>
</html>
"""


class RenderError(Exception):
    """There is no picture."""


def page(markdown: str, *, dark: bool, unfold: bool) -> str:
    """The whole HTML page."""
    content = re.sub(
        r'<pre lang="mermaid"><code>(.*?)</code></pre>',
        r'<pre class="mermaid">\1</pre>',
        render(markdown),
        flags=re.DOTALL,
    )
    if unfold:
        content = re.sub(r"<details\b(?![^>]*\sopen\b)", "<details open", content)
    theme = "dark" if dark else "light"
    css = _NODE_MODULES / "github-markdown-css" / f"github-markdown-{theme}.css"
    mermaid = _NODE_MODULES / "mermaid" / "dist" / "mermaid.min.js"
    for file in (css, mermaid):
        if not file.exists():
            raise RenderError(f"{file} is missing: run `make environments`")
    settings = {
        "startOnLoad": False,
        "securityLevel": "strict",
        "suppressErrorRendering": True,
        "theme": "dark" if dark else "default",
    }
    return _PAGE.format(
        css=html.escape(css.as_uri()),
        mermaid=html.escape(mermaid.as_uri()),
        content=content,
        settings=json.dumps(settings),
        background="#0d1117" if dark else "#ffffff",
        frame="#3d444d" if dark else "#d1d9e0",
    )


def picture(markdown: str, to: Path, *, dark: bool, unfold: bool) -> None:
    """Write a PNG of what people see."""
    with tempfile.TemporaryDirectory(prefix="render-") as temporary:
        file = Path(temporary, "page.html")
        file.write_text(page(markdown, dark=dark, unfold=unfold), encoding="utf-8")
        # The height of what is drawn is only known when it is.
        document = _browse(file, f"--window-size={_WIDTH},2000", "--dump-dom")
        height = re.search(r'data-height="(\d+)"', document)
        if height is None:
            raise RenderError(f"the page did not get ready:\n{document[-2000:]}")
        _browse(
            file,
            f"--window-size={_WIDTH},{height[1]}",
            f"--screenshot={to.absolute()}",
        )
    if not to.exists():
        raise RenderError(f"no picture in {to}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of Markdown, as GitHub shows a comment.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--to", required=True, type=Path, help="the directory for the pictures")
    parser.add_argument("--open", action="store_true", help="unfold all <details>")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    for file in arguments.files:
        markdown = file.read_text(encoding="utf-8")
        for dark in (False, True):
            to = arguments.to / f"{file.stem}-{'dark' if dark else 'light'}.png"
            picture(markdown, to, dark=dark, unfold=arguments.open)
            sys.stdout.write(f"{to}\n")


def _browse(file: Path, *flags: str) -> str:
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise RenderError(f"none of {', '.join(_BROWSERS)} is on PATH")
    result = subprocess.run(
        [browser, *_FLAGS, *flags, f"--user-data-dir={file.parent / 'profile'}", file.as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT,
        check=False,
    )
    if result.returncode:
        raise RenderError(f"{browser} failed:\n{result.stderr}")
    return result.stdout


if __name__ == "__main__":
    main()
