"""`scopevit predict`: pictures, JSON lines, tables and videos; damaged images are named."""

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from scopevit.cli import run_tool
from scopevit.commands import predict


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """A function that runs the command: exit code, and what it printed to stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        codes = []
        parser = argparse.ArgumentParser()
        predict.add_arguments(parser)

        def tool(argv: list[str]) -> None:
            codes.append(predict.run(parser.parse_args(argv)))

        capsys.readouterr()
        code = run_tool(tool, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code or codes[0], captured.out, captured.err

    return call


def write_video(path: Path, images: Path, count: int = 7) -> None:
    photo = cv2.imread(str(next(images.iterdir())))
    height, width = photo.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 10, (width, height))
    for _ in range(count):
        writer.write(photo)
    writer.release()


def test_answers_are_printed(trained, run):
    made = trained('classification')
    code, out, err = run(made.checkpoint, made.images, '--top-k', 1)
    files = sorted(made.images.iterdir())
    assert (code, err) == (0, '')
    assert [line.partition(': ')[0] for line in out.splitlines()] == [str(file) for file in files]
    assert all(line.split()[-2] in ('t-shirt', 'trouser', 'pullover') for line in out.splitlines())


@pytest.mark.parametrize('name', ['classification', 'detection', 'segmentation', 'pose'])
def test_files(name, trained, run, tmp_path):
    made = trained(name)
    files = sorted(made.images.iterdir())
    out, lines, table = tmp_path / 'out', tmp_path / 'new' / 'a.json', tmp_path / 'a.csv'
    code, printed, err = run(
        made.checkpoint, made.images, '--out', out, '--json', lines, '--csv', table,
        '--min-score', 0,
    )  # fmt: skip
    assert (code, printed, err) == (0, '', '')
    assert sorted(path.name for path in out.iterdir()) == [file.name for file in files]
    assert all(cv2.imread(str(path)).shape[1] >= 28 for path in out.iterdir())
    content = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one['source'] for one in content] == [str(file) for file in files]
    rows = list(csv.DictReader(table.open()))
    assert {row['source'] for row in rows} == {str(file) for file in files}
    key = {'detection': 'objects', 'pose': 'people'}.get(name, 'classes')
    each = 17 if name == 'pose' else 1  # keypoints
    assert len(rows) == each * sum(len(one[key]) for one in content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.csv', 'new', 'out']


def test_damaged_images_are_named_skipped_and_counted(trained, run, tmp_path):
    made, folder = trained('classification'), tmp_path / 'in'
    folder.mkdir()
    good = next(made.images.iterdir()).read_bytes()
    (folder / 'a.png').write_bytes(good)
    (folder / 'b.png').write_bytes(good[:200])
    (folder / 'c.jpg').write_text('hello')
    for strict, expected in (((), 0), (('--strict',), 1)):
        code, out, err = run(made.checkpoint, folder, *strict)
        assert code == expected
        assert out.startswith(f'{folder}/a.png: ') and out.count('\n') == 1
        assert 'damaged' in err.splitlines()[0] and f'{folder}/b.png' in err.splitlines()[0]
        assert f'{folder}/c.jpg' in err.splitlines()[1]
        assert err.splitlines()[2] == '2 damaged, skipped; 1 predicted'


def test_a_video_and_a_folder_become_a_video_each(trained, run, tmp_path):
    made, out = trained('segmentation'), tmp_path / 'out'
    write_video(tmp_path / 'clip.mp4', made.images)
    code, _, err = run(made.checkpoint, tmp_path / 'clip.mp4', made.images, '--save-video',
                       '--out', out, '--json', tmp_path / 'a.json')  # fmt: skip
    assert (code, err) == (0, '')
    assert sorted(path.name for path in out.iterdir()) == ['clip.mp4', 'images.mp4']
    for name, count, fps in (('clip', 7, 10), ('images', 4, 25)):
        capture = cv2.VideoCapture(str(out / f'{name}.mp4'))
        assert round(capture.get(cv2.CAP_PROP_FPS)) == fps
        frames = 0
        while capture.read()[0]:
            frames += 1
        assert frames == count
    lines = [json.loads(line) for line in (tmp_path / 'a.json').read_text().splitlines()]
    assert [line.get('frame') for line in lines] == [*range(7), None, None, None, None]


def test_frames_of_a_video_as_pictures(trained, run, tmp_path):
    made, out = trained('classification'), tmp_path / 'out'
    write_video(tmp_path / 'clip.mp4', trained('segmentation').images, 3)
    assert run(made.checkpoint, tmp_path / 'clip.mp4', '--out', out)[0] == 0
    names = [f'{i:06d}.jpg' for i in range(3)]
    assert sorted(path.name for path in (out / 'clip').iterdir()) == names


def test_images_of_one_name_have_a_picture_each(trained, run, tmp_path):
    made = trained('classification')
    one = next(made.images.iterdir())
    assert run(made.checkpoint, one, one, made.images, '--out', tmp_path)[0] == 0
    assert len(list(tmp_path.iterdir())) == 10


def test_boxes_from_a_file(trained, run, tmp_path):
    made = trained('pose')
    image = next(made.images.iterdir())
    boxes, lines = tmp_path / 'boxes.json', tmp_path / 'a.json'
    boxes.write_text(json.dumps({image.name: [[10, 20, 100, 200], [0, 0, 50, 50]]}))
    assert run(made.checkpoint, image, '--boxes', boxes, '--json', lines)[0] == 0
    people = json.loads(lines.read_text())['people']
    assert [person['box'] for person in people] == [[10, 20, 100, 200], [0, 0, 50, 50]]


def test_pictures_do_not_replace_their_images(trained, run, snapshot):
    made = trained('classification')
    before = snapshot(made.images)
    code, _, err = run(made.checkpoint, made.images, '--out', made.images)
    assert code == 1
    assert err.startswith('error: the picture would replace its image') and err.count('\n') == 1
    assert snapshot(made.images) == before


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'no such file or folder: nowhere'),
        (['IMAGES', '--save-video'], '--save-video: name a folder'),
        (['IMAGES', '--device', 'cuda:99'], "no device 'cuda:99'"),
        (['IMAGES', '--batch-size', '0'], '--batch-size takes a whole number above 0'),
        (['IMAGES', '--boxes', 'nowhere.json'], 'cannot read nowhere.json: No such file'),
        (['IMAGES', '--boxes', 'text.json'], 'not JSON: text.json'),
        (['IMAGES', '--boxes', 'list.json'], 'list.json: boxes are a list by name'),
        (['IMAGES', '--boxes', 'mixed.json'], 'mixed.json: boxes are a list by name'),
        (['IMAGES', '--boxes', 'huge.json'], 'huge.json: boxes are a list by name'),
        (['IMAGES', '--boxes', 'deep.json'], 'not JSON: deep.json'),
        (['IMAGES', '--boxes', 'boxes.json'], 'boxes are for top-down poses alone'),
        (['IMAGES', '--json', 'text.json/a'], 'cannot write text.json/a'),
        (['IMAGES', '--config', 'nowhere.py'], 'config not found: nowhere.py'),
    ],
)
def test_bad_arguments(arguments, message, trained, run, tmp_path, monkeypatch):
    made = trained('classification')
    monkeypatch.chdir(tmp_path)
    Path('text.json').write_text('hello')
    Path('list.json').write_text('{"a.jpg": [[1, 2]]}')
    Path('mixed.json').write_text('{"a.jpg": [[1, 2, 3, 4], [1, 2, 3, 4, 0.5]]}')
    Path('huge.json').write_text(f'{{"a.jpg": [[1, 2, 3, {10**400}]]}}')
    Path('deep.json').write_text('[' * 100_000)
    Path('boxes.json').write_text('{"a.jpg": [[1, 2, 3, 4]]}')
    before = sorted(tmp_path.iterdir())
    given = [made.images if one == 'IMAGES' else one for one in arguments]
    code, out, err = run(made.checkpoint, *given)
    assert (code, out) == (1, '')
    assert err.startswith(f'error: {message}') and err.count('\n') == 1
    assert sorted(tmp_path.iterdir()) == before


def test_images_of_two_sizes_are_no_video(trained, run, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    for i, size in enumerate((480, 500)):
        cv2.imwrite(str(folder / f'{i}.png'), np.zeros((480, size, 3), np.uint8))
    code, _, err = run(trained('classification').checkpoint, folder, '--save-video', '--out',
                       tmp_path / 'out')  # fmt: skip
    assert code == 1
    assert 'another size than the images before' in err
    assert list((tmp_path / 'out').iterdir()) == []


def test_a_training_leaves_what_prediction_needs(make_task, tool, run, tmp_path):
    task = make_task('classification')
    assert tool('train', task.config, '--work-dir', task.work_dir)[0] == 0
    code, out, _ = run(task.work_dir / 'epoch_1.pth', task.data / 'images')
    assert code == 0
    assert out.count('\n') == 8


class Window:
    """Stands in for OpenCV's: keeps what is shown, and answers with keys."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
        self.shown: list[np.ndarray] = []
        self.waits: list[int] = []
        self.keys = list(keys)
        monkeypatch.setattr(cv2, 'namedWindow', lambda name: None)
        monkeypatch.setattr(cv2, 'imshow', lambda name, picture: self.shown.append(picture))
        monkeypatch.setattr(cv2, 'waitKey', self.wait)

    def wait(self, milliseconds: int) -> int:
        self.waits.append(milliseconds)
        return ord(self.keys.pop(0)) if self.keys else -1


def test_pictures_are_shown_in_their_order_until_q(trained, run, tmp_path, monkeypatch):
    made, window = trained('segmentation'), Window(monkeypatch, 'xyq')
    files = sorted(made.images.iterdir())
    code, printed, _ = run(made.checkpoint, made.images, '--show', '--out', tmp_path)
    assert code == 0
    assert [line.partition(': ')[0] for line in printed.splitlines()] == [*map(str, files[:3])]
    assert window.waits == [0, 0, 0]  # for a key, without end
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == [file.name for file in files[:3]]
    for picture, path in zip(window.shown, written, strict=True):
        assert cv2.imencode(path.suffix, picture)[1].tobytes() == path.read_bytes()


class Camera:
    """Stands in for `cv2.VideoCapture`: frames that have their number as grey, without end."""

    opened = 0

    def __init__(self, address: object) -> None:
        assert address == 3
        self.number = 0
        Camera.opened += 1

    def isOpened(self) -> bool:
        return True

    def get(self, key: int) -> float:
        return -1.0  # as cameras that do not know

    def read(self) -> tuple[bool, np.ndarray]:
        self.number += 1
        return True, np.full((48, 64, 3), self.number - 1, np.uint8)

    def release(self) -> None:
        Camera.opened -= 1


def test_a_camera_is_shown_until_q(trained, run, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    window = Window(monkeypatch, 'xxxxq')
    lines = tmp_path / 'a.json'
    code, printed, err = run(trained('detection').checkpoint, 3, '--show', '--json', lines)
    assert (code, printed, err) == (0, '', '')
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one['frame'] for one in found] == [0, 1, 2, 3, 4]
    assert {(one['source'], one['height'], one['width']) for one in found} == {('3', 48, 64)}
    assert window.waits == [1] * 5  # milliseconds: the camera goes on
    assert [int(np.median(picture)) for picture in window.shown] == [0, 1, 2, 3, 4]
    assert Camera.opened == 0


def test_an_interrupt_keeps_whole_lines(trained, run, tmp_path, monkeypatch):
    made, left = trained('classification'), ['a', 'b', 'c']

    def draw_or_stop(path: Path, picture: np.ndarray) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()

    monkeypatch.setattr('scopevit.inference.output.write_picture', draw_or_stop)
    lines = tmp_path / 'a.json'
    code, _, err = run(made.checkpoint, made.images, '--json', lines, '--out', tmp_path / 'out')
    assert (code, err) == (130, 'stopped\n')
    assert lines.read_text().endswith('\n')
    assert [bool(json.loads(line)['classes']) for line in lines.read_text().splitlines()] == [1] * 4


def test_a_video_with_a_hole_is_a_line(trained, process, tmp_path):
    made, video = trained('detection'), tmp_path / 'a.mp4'
    write_video(video, made.images, 30)
    content = video.read_bytes()
    quarter = len(content) // 4
    video.write_bytes(content[:quarter] + bytes(quarter) + content[2 * quarter :])
    done = process('scopevit_command.py', 'predict', made.checkpoint, video)
    assert done.returncode == 0
    assert 'Traceback' not in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith('[')]  # of FFmpeg
