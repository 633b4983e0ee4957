"""Draws docs/attention.svg: what one token sees in MSSA and in GSDA.

    python tools/docs/draw_attention.py [--out FILE.svg]

Everything comes from the network: kernels, strides and heads from its layers, groups from the
function that GSDA groups by. The same network gives the same bytes.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from scopevit import ScopeViT
from scopevit.cli import run_tool
from scopevit.errors import InputError
from scopevit.files import write_text
from scopevit.models.groups import dilated_spans

ROOT = Path(__file__).parents[2]
ARCH = 'tiny'
IMAGE = 256  # side of a square image
OTHER_IMAGE = (320, 427)  # height and width of one that no stage divides evenly
QUERY = (19, 21)  # row and column of the token whose view is drawn in stage 2
KEY = (4, 4)  # row and column, among the keys, of the one whose patch is drawn

WIDTH, MAP, GAP, LEFT = 880, 240, 60, 20  # of the picture, of a map, between maps, beside them
LINE_LENGTH = 120  # characters, in the widest of the usual fonts
INK, GREY, LINE = '#1f2937', '#6b7280', '#d9dde3'
HEAD_COLOURS = {'large': '#c2410c', 'medium': '#0f766e', 'small': '#4338ca'}
GROUP_COLOURS = ('#2563eb', '#f59e0b', '#10b981', '#db2777')

Cell = tuple[int, int]  # row and column of a token


def stage_size(stage: int, side: int) -> int:
    """Returns how many tokens a stage, counted from 1, has along a side of the image."""
    return -(-side // 2 ** (stage + 1))


def keys_of(conv: nn.Conv2d, size: int) -> list[Cell]:
    """Returns the centres of the keys that a convolution makes of a map of size x size tokens."""
    (kernel, _), (stride, _), (padding, _) = conv.kernel_size, conv.stride, conv.padding
    count = (size + 2 * padding - kernel) // stride + 1
    centres = [i * stride - padding + kernel // 2 for i in range(count)]
    return [(row, column) for row in centres for column in centres]


def patch_of(conv: nn.Conv2d, centre: Cell) -> list[Cell]:
    """Returns the tokens that the key with this centre is made of."""
    reach = range(-(conv.kernel_size[0] // 2), conv.kernel_size[0] // 2 + 1)
    return [(centre[0] + down, centre[1] + right) for down in reach for right in reach]


def groups_of(height: int, width: int, grid_size: int) -> list[list[Cell]]:
    """Returns the tokens of each of GSDA's groups on a map."""
    sides = []
    for size in (height, width):
        dilation, spans = dilated_spans(size, grid_size)
        sides.append(
            [
                [first + i * dilation for i in range(slots)]
                for span, slots in spans
                for first in range(span.start, span.stop)
            ]
        )
    return [
        [(row, column) for row in rows for column in columns]
        for rows in sides[0]
        for columns in sides[1]
    ]


class Picture:
    """Collects the parts of an SVG."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(
        self, x: float, y: float, text: str, size: int = 13, colour: str = INK, bold: bool = False
    ) -> None:
        """Adds a line of text that begins at a point; y is its base line."""
        weight = ' font-weight="bold"' if bold else ''
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{weight}>{text}</text>'
        )

    def paragraph(self, y: float, heading: str, text: str) -> None:
        """Adds a heading and what is said below it."""
        self.text(LEFT, y, heading, 17, bold=True)
        for i, line in enumerate(textwrap.wrap(text, LINE_LENGTH)):
            self.text(LEFT, y + 21 + 17 * i, line, colour=GREY)

    def path(self, steps: str, **style: object) -> None:
        """Adds a path."""
        drawn = ''.join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
        self.parts.append(f'<path d="{steps}"{drawn}/>')

    def svg(self, height: int, description: str) -> str:
        """Returns the whole file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" '
            'font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif">'
        )
        ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        return '\n'.join([head, f'<title>{description}</title>', ground, *self.parts, '</svg>', ''])


class Map:
    """A map of tokens in a picture.

    Args:
        picture: What is drawn on.
        column: Place in the row of maps, from 0.
        top: Upper edge.
        height: Tokens from top to bottom.
        width: Tokens from left to right.
    """

    def __init__(self, picture: Picture, column: int, top: float, height: int, width: int) -> None:
        self.picture, self.top, self.left = picture, top, LEFT + column * (MAP + GAP)
        self.size = MAP / max(height, width)
        right, bottom = self.left + width * self.size, top + height * self.size
        rows = [f'M{self.left:g} {top + i * self.size:g}H{right:g}' for i in range(height + 1)]
        columns = [f'M{self.left + i * self.size:g} {top:g}V{bottom:g}' for i in range(width + 1)]
        picture.path(''.join(rows + columns), stroke=LINE, stroke_width=0.75)

    def centre(self, cell: Cell) -> tuple[float, float]:
        """Returns the middle of a token, x and y."""
        return (
            round(self.left + (cell[1] + 0.5) * self.size, 1),
            round(self.top + (cell[0] + 0.5) * self.size, 1),
        )

    def squares(self, cells: Iterable[Cell], share: float = 1, **style: object) -> None:
        """Draws a square in each of some tokens, of a share of its side."""
        side, steps = round(self.size * share, 1), []
        for x, y in map(self.centre, cells):
            steps.append(f'M{x - side / 2:.5g} {y - side / 2:.5g}h{side:g}v{side:g}h-{side:g}z')
        self.picture.path(''.join(steps), **style)

    def rays(self, cell: Cell, others: Iterable[Cell], **style: object) -> None:
        """Draws a line from one token to each of others."""
        x, y = self.centre(cell)
        steps = ''.join(f'M{x:g} {y:g}L{a:g} {b:g}' for a, b in map(self.centre, others))
        self.picture.path(steps, **style)


def draw_mssa(picture: Picture, model: ScopeViT, top: float) -> None:
    """Draws what the heads of stage 2 see, one map for each kernel."""
    size, split = stage_size(2, IMAGE), model.arch['head_splits'][1]
    convs = list(model.stages[1].blocks[0].mssa.attn.scales)
    stride = convs[0].stride[0]
    picture.paragraph(
        top,
        'MSSA: heads of three scales',
        f'Stage 2 on an image of {IMAGE}×{IMAGE}: {size}×{size} tokens. The black one attends to '
        f'all keys (dots), which depthwise convolutions of stride {stride} make. The heads differ '
        'in the kernel, and so in how large a patch a key stands for: one is drawn.',
    )
    for i, (conv, heads, (name, colour)) in enumerate(zip(convs, split, HEAD_COLOURS.items())):
        keys, side = keys_of(conv, size), conv.kernel_size[0]
        chosen = keys[KEY[0] * round(len(keys) ** 0.5) + KEY[1]]
        drawn = Map(picture, i, top + 56, size, size)
        drawn.squares(patch_of(conv, chosen), fill=colour, fill_opacity=0.35)
        drawn.rays(QUERY, keys, stroke=colour, stroke_width=0.5, stroke_opacity=0.22)
        drawn.squares(keys, 0.42, fill=colour)
        drawn.rays(QUERY, [chosen], stroke=colour, stroke_width=2)
        drawn.squares([chosen], 0.8, fill=colour)
        drawn.squares([QUERY], 1.3, fill='#000000')
        count = f'{heads} {name} head{"s" * (heads > 1)}'
        picture.text(drawn.left, top + 56 + MAP + 19, f'{count}: {side}×{side}', bold=True)


def draw_gsda(picture: Picture, model: ScopeViT, top: float) -> None:
    """Draws the groups of stages 2 and 3, and those of a map that does not divide evenly."""
    grid = model.stages[1].blocks[0].gsda.attn.grid_size
    picture.paragraph(
        top,
        'GSDA: dilated groups',
        f'Tokens of one colour are a group: at most {grid}×{grid}, a dilation apart, so that they '
        'reach over the whole map. They attend to one another alone, with a bias for how far apart '
        'they are; left and right, two of their groups are shown.',
    )
    maps = [(2, (IMAGE, IMAGE)), (3, (IMAGE, IMAGE)), (3, OTHER_IMAGE)]
    for i, (stage, image) in enumerate(maps):
        height, width = (stage_size(stage, side) for side in image)
        groups = groups_of(height, width, grid)
        drawn = Map(picture, i, top + 56, height, width)
        # The first, and the last with every other; where there are few, all.
        shown = groups if len(groups) <= len(GROUP_COLOURS) else [groups[0], groups[-1]]
        for group, colour in zip(shown, GROUP_COLOURS):
            drawn.squares(group, 0.86, fill=colour)
        sides = [tuple(len(set(side)) for side in zip(*group)) for group in groups]
        kinds = ' to '.join(
            f'{rows}×{columns}' for rows, columns in sorted({*sides[:1], *sides[-1:]})
        )
        apart = '×'.join(str(dilated_spans(side, grid)[0]) for side in (height, width))
        base = top + 56 + MAP + 19
        picture.text(drawn.left, base, f'Stage {stage}: {height}×{width} tokens', bold=True)
        below = f'dilation {apart}: {len(groups)} groups of {kinds}'
        picture.text(drawn.left, base + 17, below, 12, GREY)


def draw() -> str:
    """Returns the picture as SVG."""
    picture, model = Picture(), ScopeViT(ARCH)
    draw_mssa(picture, model, 30)
    draw_gsda(picture, model, 398)
    return picture.svg(744, 'What one token sees in MSSA and in GSDA')


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'attention.svg')
    args = parser.parse_args(argv)
    if args.out.suffix != '.svg':
        raise InputError(f'--out must end in .svg, not {args.out}')
    write_text(args.out, draw())


if __name__ == '__main__':
    sys.exit(run_tool(main))
