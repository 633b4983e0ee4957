"""What the pages point to is there, and what README.md claims of the network is so."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from scopevit import ScopeViT
from scopevit.models.groups import dilated_spans
from scopevit.models.sizes import KERNEL_SIZES

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('configs/*/*.md')])


def anchors(page):
    """The names by which the headings of a page are linked to."""
    headings = re.findall('^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    links = re.findall(r'\]\((?!http)([^)#]*)#?([^)]*)\)', page.read_text())
    assert links or page.name == 'table.md'  # a tool's output
    for target, anchor in links:
        path = page.parent / target if target else page
        # The demo's table shows pictures that lie in work_dirs once the demo has run.
        assert path.exists() or re.fullmatch(r'\w+\.png', target), target
        assert not anchor or anchor in anchors(path), f'{target}#{anchor}'


@pytest.mark.parametrize('page', sorted(ROOT.glob('docs/*.md')), ids=lambda page: page.name)
def test_every_page_of_docs_is_linked_from_the_readme(page):
    assert f'](docs/{page.name})' in README


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_it_names_exists(page):
    text = page.read_text()
    named = set(re.findall(r'(?<![\w/.-])(?:configs|tools|tests|scopevit)/[\w/.-]+\.\w+', text))
    assert page.name != 'README.md' or page.parent != ROOT or len(named) >= 7
    assert [path for path in named if not (ROOT / path).is_file()] == []
    targets = re.findall(r'^(\w[\w -]*):(?!=)', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    called = set(re.findall(r'(?:^|`)make ([\w-]+)', text, re.MULTILINE))
    assert called <= {name for line in targets for name in line.split()}


@pytest.mark.parametrize('arch', ['xtiny', 'tiny', 'small'])
def test_parameters_are_those_of_the_network(arch):
    row = re.search(rf'\| `{arch}` \| ([\d, ]+) \| ([\d.]+) M', README)
    model = ScopeViT(arch)
    assert tuple(map(int, row[1].split(', '))) == model.embed_dims
    total = sum(p.numel() for p in model.parameters()) + 1000 * (model.embed_dims[-1] + 1)
    assert float(row[2]) == round(total / 1e6, 3)


@pytest.mark.parametrize('stage', [1, 2, 3, 4])
def test_stages_are_those_of_the_network(stage):
    row = re.search(rf'^\| {stage} \| (.+) \|$', README, re.MULTILINE)[1]
    arch = ScopeViT('tiny').arch
    size, heads = 256 // 2 ** (stage + 1), arch['head_splits'][stage - 1]
    dilation, [(span, slots)] = dilated_spans(size, arch['grid_size'])
    keys = size // arch['kv_strides'][stage - 1]
    assert row.split(' | ') == [
        f'{size}×{size}',
        ', '.join(map(str, heads)),
        f'{keys}×{keys}',
        f'{len(range(dilation)[span]) ** 2} of {slots}×{slots}, dilation {dilation}',
    ]
    assert ', '.join(f'{side}×{side}' for side in KERNEL_SIZES) in README


def test_the_five_lines_print_what_it_says():
    code, said = re.search(r'```python\n(.+?)```\n\nprints (.+?):', README, re.DOTALL).groups()
    assert len(code.split('\n\n')) == 2 and len([line for line in code.splitlines() if line]) == 5
    with redirect_stdout(StringIO()) as printed:
        exec(code, {})
    assert re.findall(r'\(.+?\)', printed.getvalue()) == re.findall(r'\(.+?\)', said)
