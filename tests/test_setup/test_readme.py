"""What README.md points to is there, and what it claims of sizes is so."""

import re
from pathlib import Path

import pytest

from scopevit import ScopeViT

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()


PAGES = sorted(path for path in ROOT.glob('configs/*/*.md'))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.parent.name)
def test_links_of_a_page_lead_somewhere(page):
    targets = re.findall(r'\]\((?!http)([^)#]+)', page.read_text())
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize('target', sorted(set(re.findall(r'\]\((?!http)([^)#]+)\)', README))))
def test_link_leads_somewhere(target):
    # The demo's table shows pictures that lie in work_dirs once the demo has run.
    assert (ROOT / target).exists() or re.fullmatch(r'\w+\.png', target)


def test_configs_and_tools_it_names_exist():
    named = set(re.findall(r'(?:configs|tools)/[\w/.-]+\.(?:py|sh)', README))
    assert len(named) >= 7
    assert all((ROOT / path).is_file() for path in named)


@pytest.mark.parametrize('arch', ['xtiny', 'tiny', 'small'])
def test_parameters_are_those_of_the_network(arch):
    row = re.search(rf'\| `{arch}` \| ([\d, ]+) \| ([\d.]+) M', README)
    model = ScopeViT(arch)
    assert tuple(map(int, row[1].split(', '))) == model.embed_dims
    total = sum(p.numel() for p in model.parameters()) + 1000 * (model.embed_dims[-1] + 1)
    assert float(row[2]) == round(total / 1e6, 3)
