"""Files, folders, patterns, lists, arrays and videos."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from scopevit.errors import InputError
from scopevit.inference.sources import open_sources

FRAMES = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('b.png', 'a.jpg', 'sub/a.jpg', 'notes.txt'):
        path = tmp_path / 'in' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == '.txt':
            path.write_text('hello')
        else:
            cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
    return tmp_path / 'in'


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (64, 48))
    for i in range(FRAMES):
        writer.write(np.full((48, 64, 3), 8 * i, np.uint8))
    writer.release()
    return path


def names(given: object) -> list[str]:
    return [item.name for source in open_sources(given) for item in source.items(0)]


def test_a_folder_has_those_below_it(folder):
    assert names(folder) == ['a.jpg', 'b.png', 'sub/a.jpg']
    assert [source.count for source in open_sources(str(folder))] == [3]


def test_files_patterns_and_lists(folder):
    assert names(folder / 'b.png') == ['b.png']
    assert names(f'{folder}/*') == ['a.jpg', 'b.png']
    assert names(f'{folder}/**/a*') == ['a.jpg', 'a_2.jpg']
    assert names([folder / 'b.png', str(folder / 'a.jpg')]) == ['b.png', 'a.jpg']
    assert names([folder / 'b.png', str(folder)]) == ['b.png', 'a.jpg', 'b.png', 'sub/a.jpg']


def test_arrays():
    array = np.zeros((4, 6), np.uint8)
    assert names(array) == names(Image.fromarray(array)) == ['image_000000.png']
    assert (
        names([array, array])
        == names(iter([array, array]))
        == (['image_000000.png', 'image_000001.png'])
    )
    bad = list(open_sources([array, array.astype(float)])[0].items(0))
    assert isinstance(bad[1], InputError)


def test_videos(video):
    (source,) = open_sources(video)
    items = list(source.items(0))
    assert (source.count, source.fps, source.is_sequence) == (FRAMES, 10, True)
    assert [item.frame for item in items] == list(range(FRAMES))
    assert items[3].name == 'clip/000003.jpg'
    assert abs(items[3].pixels.astype(int) - 24).max() <= 2


def test_a_video_that_breaks_off_is_told_after_its_frames(video):
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    (source,) = open_sources(video)
    *items, error = source.items(0)
    assert 0 < len(items) < FRAMES
    assert f'clip.avi breaks off after {len(items)}' in str(error)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ('nowhere.jpg', 'no such file or folder: nowhere.jpg'),
        ('nowhere/*.jpg', r'no image matches nowhere/\*.jpg'),
        ('empty', 'no images in empty: none of its files ends in .avif, .bmp'),
        ('broken.mp4', 'not a video: broken.mp4'),
        ('97', 'no camera 97'),
        ([], 'the list is empty'),
        (1.5, 'images come from files'),
        ([1.5], 'give a file, an array'),
    ],
)
def test_what_is_no_source(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('empty').mkdir()
    Path('broken.mp4').write_text('hello')
    with pytest.raises(InputError, match=message):
        for source in open_sources(given):
            for item in source.items(0):
                if isinstance(item, InputError):
                    raise item
