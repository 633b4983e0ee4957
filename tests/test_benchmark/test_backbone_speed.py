"""The backbone's benchmark: what it runs, and the tool."""

import json
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
from torch import nn

from scopevit.benchmark import backbone_speed, timing
from scopevit.benchmark.backbone_cases import (
    DEFAULT_CASES,
    PEER_BATCH_SIZES,
    default_forms,
    parse_case,
)
from scopevit.benchmark.backbone_speed import PAGE_BEGIN, PAGE_END, measure, peers_case
from scopevit.benchmark.backbone_table import PEERS, Measurement
from scopevit.benchmark.forms import (
    INFERENCE,
    TRAINING,
    check_form,
    make_backbone,
    make_pass,
    precision,
)
from scopevit.benchmark.memory import tensors_of
from scopevit.benchmark.pages import page_with
from scopevit.benchmark.plain import PlainScopeViT
from scopevit.benchmark.timing import Pass
from scopevit.errors import InputError

TOOL = 'benchmark/backbone_speed'
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# Forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'device, name', [(device, name) for device in DEFAULT_CASES for name in DEFAULT_CASES[device]]
)
def test_default_forms_suit_their_cases(device, name):
    mode = INFERENCE if name == PEERS else parse_case(name)[0]
    for form in default_forms(name, device):
        check_form(form, mode)


def test_default_forms_of_other_cases():
    assert default_forms('training-96x96-b3', 'cpu') == ('plain', 'eager', 'checkpointed', 'bf16')
    assert 'pure-bf16' in default_forms('inference-96x96-b3', 'cuda')
    assert 'deployed' not in default_forms('training-96x96-b3', 'cuda')


@pytest.mark.parametrize(
    'form, mode, words',
    [
        ('fast', INFERENCE, 'plain, eager'),
        ('bf16+bf16', INFERENCE, 'joined by'),
        ('plain+deployed', INFERENCE, 'do not go together'),
        ('bf16+pure-bf16', INFERENCE, 'do not go together'),
        ('pure-fp16+pure-bf16', TRAINING, 'do not go together'),
        ('deployed', TRAINING, 'no training'),
        ('checkpointed+bf16', INFERENCE, 'no inference'),
    ],
)
def test_unknown_forms_are_refused(form, mode, words):
    with pytest.raises(InputError, match=words):
        check_form(form, mode)


def test_every_form_gives_the_same_maps():
    def outputs(form):
        run = make_pass(make_backbone(form, 'xtiny'), form, INFERENCE)
        return tensors_of(run(run.place(IMAGES)))

    reference = outputs('plain')
    for form, tolerance in (('eager', 1e-5), ('channels-last', 1e-5), ('deployed', 1e-5),
                            ('deployed+channels-last', 1e-5), ('bf16', 0.05),
                            ('pure-bf16', 0.05), ('deployed+pure-bf16', 0.05),
                            ('plain+pure-bf16', 0.05), ('pure-fp16', 0.01)):  # fmt: skip
        for a, b in zip(outputs(form), reference, strict=True):
            assert (a - b).abs().max() < tolerance * b.abs().max(), form


def test_what_a_form_is():
    assert isinstance(make_backbone('plain', 'xtiny'), PlainScopeViT)
    assert make_backbone('deployed+bf16', 'xtiny').deploy
    run = make_pass(make_backbone('checkpointed', 'xtiny'), 'checkpointed', TRAINING)
    assert run.module.training and run.module.stages[0].blocks[0].with_cp
    run(IMAGES)
    assert all(p.grad is not None for p in run.module.parameters())


def test_a_pure_form_is_converted_once():
    run = make_pass(make_backbone('pure-fp16', 'xtiny'), 'pure-fp16', TRAINING)
    assert {p.dtype for p in run.module.parameters()} == {torch.float16}
    images = run.place(IMAGES)
    assert images.dtype == torch.float16 and run.place(images) is images
    outs = run(images)
    assert {out.dtype for out in outs} == {torch.float16}
    assert all(p.grad.dtype == torch.float16 for p in run.module.parameters())


def test_precision_of_a_form():
    assert precision('deployed+compiled') == 'float32'
    assert precision('bf16') == precision('deployed+pure-bf16') == 'bfloat16'
    assert precision('pure-fp16+compiled') == 'float16'


@pytest.mark.slow
def test_weights_in_half_precision_may_be_constants_of_a_compiled_network():
    """As `time_pass` compiles for inference."""

    def maps(form):
        run = make_pass(make_backbone(form, 'xtiny'), form, INFERENCE)
        images = run.place(IMAGES)
        if 'compiled' in form:
            with torch._inductor.config.patch(freezing=True):
                run.compile([images])
        return tensors_of(run(images))

    form = 'deployed+compiled+pure-bf16'
    for a, b in zip(maps(form), maps('plain'), strict=True):
        assert (a - b).abs().max() < 0.05 * b.abs().max()


@pytest.mark.parametrize('mode', [INFERENCE, TRAINING])
def test_weights_are_constants_for_inference_alone(mode, monkeypatch):
    found = []

    def compile(self, batches):
        found.append(torch._inductor.config.freezing)

    monkeypatch.setattr(Pass, 'compile', compile)
    make = lambda: make_pass(make_backbone('compiled', 'xtiny'), 'compiled', mode)  # noqa: E731
    measurement = Measurement('ScopeViT', 'compiled', (2, 3, 64, 64), 1)
    next(backbone_speed.time_pass(measurement, make, IMAGES))
    assert found == [mode == INFERENCE] and measurement.attention == []


# Cases --------------------------------------------------------------------------------------------


def test_names_of_cases():
    assert parse_case('inference-800x1333-b1') == ('inference', (800, 1333), 1)
    assert parse_case('training-64x96-b16') == ('training', (64, 96), 16)
    for name in ('inference-64-b1', 'inference-64x64', 'test-64x64-b1', 'inference-64x64-b0'):
        with pytest.raises(InputError, match=f'inference-512x512-b1.*not {name!r}'):
            parse_case(name)


def test_images_of_an_absurd_size(fails, tmp_path):
    name = 'inference-99999999999x99999999999-b9'
    line = fails('benchmark/backbone_speed', '--cases', name, '--out', tmp_path)
    assert line == f'error: --cases: {name}: no memory for such images'


def test_a_process_that_is_killed_is_named(monkeypatch):
    class Pool:
        def __init__(self, *arguments, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def submit(self, *arguments):
            raise BrokenProcessPool

    monkeypatch.setattr(backbone_speed, 'ProcessPoolExecutor', Pool)
    with pytest.raises(InputError, match='the process of inference-64x64-b1 was killed'):
        backbone_speed.in_process(print, 'inference-64x64-b1')


def test_what_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr(timing, 'VISIT_SECONDS', 1e-3)
    monkeypatch.setattr(backbone_speed, 'MIN_ROUNDS', 2)

    def broken():
        raise RuntimeError('no kernel\nmore')

    def sound():
        return make_pass(make_backbone('eager', 'xtiny'), 'eager', INFERENCE)

    def measurement(form):
        return Measurement('ScopeViT', form, (2, 3, 64, 64), 4 * 10**9)

    candidates = [(measurement('bf16'), broken, IMAGES), (measurement('eager'), sound, IMAGES)]
    case = measure('here', candidates, 'cpu')
    assert case.measurements[0].failed == 'RuntimeError: no kernel'
    assert len(case.measurements[1].seconds) == 2 and case.measurements[1].peak_bytes > 0
    assert case.product_rates['float32'] > 0 < case.copy_rate
    assert case.product_rates['bfloat16'] > 0  # that of the form that failed


def test_what_fails_in_a_round_keeps_no_times(monkeypatch):
    monkeypatch.setattr(timing, 'VISIT_SECONDS', 1e-3)

    class Tires(nn.Module):
        """Fails at its fourth pass, after those that prepare it."""

        passes = 0

        def forward(self, images):
            self.passes += 1
            if self.passes > 3:
                raise MemoryError('tired')
            return images + 1

    tired = Measurement('Tires', 'eager', (2, 3, 64, 64), 1)
    case = measure('here', [(tired, lambda: Pass(Tires()), IMAGES)], 'cpu')
    assert tired.failed == 'MemoryError: tired' and tired.seconds == [] and case.failed == [tired]
    assert case.copy_rate > 0


class MadeUpGpu(Pass):
    """A pass that runs on the CPU and says that it does not."""

    def __init__(self, module):
        super().__init__(module)
        self.device = 'cuda'

    def place(self, images):
        return images


@pytest.mark.filterwarnings('ignore:User provided device_type')
def test_on_a_gpu_its_own_time_is_taken_in_each_round(monkeypatch):
    guards, waited = [], []

    class Looks(nn.Module):
        def forward(self, images):
            guards.append(torch.is_inference_mode_enabled())

    def gpu_seconds(launch, seconds):
        before = len(waited)
        launch()
        assert len(waited) == before and seconds > 0
        return 0.25

    def peak_memory(run, device):
        guards.clear()
        run()
        return 1000 if guards == [True] else 0

    monkeypatch.setattr(timing, 'VISIT_SECONDS', 1e-3)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: waited.append(True))
    monkeypatch.setattr(backbone_speed, 'gpu_seconds', gpu_seconds)
    monkeypatch.setattr(backbone_speed, 'peak_memory', peak_memory)
    m = Measurement('Looks', 'eager', (2, 3, 64, 64), 1)
    turns = backbone_speed.time_pass(m, lambda: MadeUpGpu(Looks()), IMAGES)
    for _ in range(3):  # the first prepares
        next(turns)
    assert m.peak_bytes == 1000 and m.gpu_seconds == [0.25, 0.25] and len(m.seconds) == 2


@pytest.mark.slow
def test_peers_are_the_recipes_of_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, 'VISIT_SECONDS', 1e-3)
    monkeypatch.setattr(backbone_speed, 'MIN_ROUNDS', 1)
    monkeypatch.setitem(PEER_BATCH_SIZES, 'cpu', 1)
    table = tmp_path / 'published.yml'
    row = '{system: %s, params: 1, gflops: 1, resolution: 224, top1: 70, venue: x, config: %s}'
    configs = ('scopevit-xtiny_8xb128_in1k', 'deit-small_8xb128_in1k', 'null')
    rows = [f'- {row % (name, config)}\n' for name, config in zip('ABC', configs)]
    table.write_text(''.join(rows))
    case = peers_case(('eager', 'deployed', 'deployed+bf16'), str(table), 'cpu')
    found = [(m.network, m.form, m.shape[0]) for m in case.measurements]
    assert found == [
        ('A', 'eager', 1), ('A', 'deployed', 1), ('A', 'deployed+bf16', 1),
        ('B', 'eager', 1), ('B', 'bf16', 1),
    ]  # fmt: skip
    assert not any(m.failed for m in case.measurements)
    assert case.measurements[0].operations == pytest.approx(2 * 1.431e9, rel=1e-3)


# The page and the tool ----------------------------------------------------------------------------


def test_the_page_keeps_what_is_around_the_tables(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n')
    page.write_text(page_with(str(page), PAGE_BEGIN, PAGE_END, 'new\n'))
    page.write_text(page_with(str(page), PAGE_BEGIN, PAGE_END, 'newer\n'))
    assert page.read_text() == (
        'before\n<!-- measured -->\n\nnewer\n\n<!-- end of measured -->\nafter\n'
    )


@pytest.mark.slow
def test_the_tool(process, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('<!-- measured -->\n<!-- end of measured -->\n')
    done = process(
        'tools/benchmark/backbone_speed.py', '--arch', 'xtiny', '--out', tmp_path / 'out',
        '--page', page, '--cases', 'inference-64x64-b1', 'training-64x64-b2',
        '--forms', 'plain', 'eager',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '## Attention, training-64x64-b2' in done.stdout
    assert '## training-64x64-b2' in done.stdout and done.stdout.strip() in page.read_text()
    content = json.loads((tmp_path / 'out/backbone_speed.json').read_text())
    assert content == json.loads(page.with_suffix('.json').read_text())
    assert content['arch'] == 'xtiny' and content['machine']['torch'] == torch.__version__
    for case, operations in zip(content['cases'], (2, 6 * 2)):
        forms = {m['form']: m for m in case['measurements']}
        assert list(forms) == ['plain', 'eager']
        assert forms['plain']['times_as_fast_as_plain'] == [1, 1, 1]
        assert len(forms['eager']['seconds']) == backbone_speed.MIN_ROUNDS
        assert forms['plain']['attention'] == [] and forms['eager']['gpu_seconds'] == []
        kernels = {(a['layer'], a['kernel'], a['count']) for a in forms['eager']['attention']}
        gsda = 'flash (CPU)' if operations == 2 else 'products'
        assert ('stages.2.blocks.*.mssa.attn', 'flash (CPU)', 4) in kernels
        assert ('stages.2.blocks.*.gsda.attn', gsda, 4) in kernels
        # 89 M multiply-adds of an image of 64x64 (1431 M of 256x256, and less attention).
        assert 80e6 < forms['eager']['operations'] / operations < 95e6


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--cases', 'everything'], 'inference-512x512-b1'),
        (['--forms', 'quick'], "not 'quick'"),
        (['--cases', 'training-64x64-b1', '--forms', 'deployed'], 'no training'),
        (['--arch', 'huge'], '--arch: arch must be one of'),
        (['--page', 'nowhere.md'], 'nowhere.md'),
        (['--cases', 'inference-31x64-b1'], '32 pixels'),
        (['--cases', 'inference-64x64-b1', '--profile'], 'inference-256x256-b8'),
        (['--published', 'nowhere.yml'], 'nowhere.yml'),
    ],
)
def test_wrong_arguments(fails, arguments, words, tmp_path):
    out = tmp_path / 'out'
    assert words in fails(TOOL, '--out', out, *arguments)
    assert not out.exists()


def test_a_page_without_a_place_for_the_tables(fails, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('# Page\n')
    line = fails(TOOL, '--out', tmp_path / 'out', '--page', page)
    assert str(page) in line and '<!-- measured -->' in line
